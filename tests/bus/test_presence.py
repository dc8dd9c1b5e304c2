"""Who is there: keys that are renewed, left at once, or expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from msgspec.structs import replace

from libs.bus.connection import Bus, connect
from libs.bus.errors import InstanceTaken, OutcomeUnknown
from libs.bus.presence import Peers, Presence, chosen, in_charge, list_present
from libs.bus.telemetry import NoTelemetry
from libs.contracts import streams, subjects
from libs.contracts.limits import PRESENCE_TTL_S
from libs.contracts.presence import PresenceRecord
from tests.bus.support import restart, running, until
from tests.support.broker import Broker
from tests.support.eventually import eventually

SINCE = datetime(2026, 1, 2, tzinfo=UTC)

AT_ONCE_S = PRESENCE_TTL_S / 2
"""Less than what is left of a key's time: it is renewed three times and more in it."""

STOOD_STILL_S = 1.0


@pytest.fixture(autouse=True)
def leaving_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.bus.presence._LEAVE_WITHIN_S", 30.0)


def record(instance: str = "one", service: str = "thinker", **more: Any) -> PresenceRecord:
    base = PresenceRecord(
        service=service,
        instance=instance,
        boot=f"boot of {instance}",
        pid=1,
        host="h",
        ready=True,
        since=SINCE,
        restarts=0,
    )
    return replace(base, **more)


@asynccontextmanager
async def present(bus: Bus, its_record: PresenceRecord) -> AsyncIterator[Presence]:
    presence = Presence(bus, lambda: its_record)
    async with running(presence.run()):
        yield presence


async def names(bus: Bus) -> list[str]:
    return [found.instance for found in await list_present(bus) if found.service != "gateway"]


async def is_there(bus: Bus, *instances: str) -> bool:
    return await names(bus) == list(instances)


@asynccontextmanager
async def watching(bus: Bus, service: str) -> AsyncIterator[Peers]:
    """Watch a service's processes from one of another service, which is there itself."""
    own = Presence(bus, lambda: record("watcher", "gateway"))
    peers = Peers(bus, service, own.subject)
    await peers.prime()
    async with running(peers.run(), own.run()):
        yield peers


def living(peers: Peers) -> list[str]:
    return [found.instance for found in peers.living()]


async def test_a_process_appears_and_leaves_at_once(bus: Bus) -> None:
    async with watching(bus, "thinker") as peers:
        async with present(bus, record("host.1/ü")):
            await until(lambda: is_there(bus, "host.1/ü"))
            await eventually(lambda: living(peers) == ["host.1/ü"])
        await until(lambda: is_there(bus), within=AT_ONCE_S)
        await eventually(lambda: living(peers) == [], within=AT_ONCE_S)


async def test_whoever_watches_from_now_on_knows_who_is_there_already(bus: Bus) -> None:
    async with present(bus, record("a")), present(bus, record("b")):
        await until(lambda: is_there(bus, "a", "b"))
        peers = Peers(bus, "thinker", subjects.presence_key("thinker", "c"))
        await peers.prime()
        assert living(peers) == ["a", "b"]


async def test_only_the_service_that_is_asked_for_is_watched_and_the_own_key(bus: Bus) -> None:
    async with (
        watching(bus, "scheduler") as peers,
        present(bus, record("t")),
        present(bus, record("s", "scheduler")),
    ):
        await eventually(lambda: living(peers) == ["s"])
        await until(lambda: is_there(bus, "s", "t"))
        followers = (await bus.api(f"CONSUMER.LIST.{streams.LEASES}"))["consumers"]
        watched = ["$KV.leases.scheduler.*", "$KV.leases.gateway.watcher"]
        assert [found["config"]["filter_subjects"] for found in followers] == [watched]


async def test_it_is_known_when_the_first_that_falls_silent_counts_as_gone(bus: Bus) -> None:
    clock = asyncio.get_running_loop().time
    async with watching(bus, "thinker") as peers:
        assert peers.first_gone_at() == inf
        async with present(bus, record("a")), present(bus, record("b")):
            await eventually(lambda: living(peers) == ["a", "b"])
            soon, late = PRESENCE_TTL_S / 2, PRESENCE_TTL_S
            await eventually(lambda: clock() + soon < peers.first_gone_at() <= clock() + late)
        await eventually(lambda: peers.first_gone_at() == inf, within=AT_ONCE_S)


async def test_a_change_is_told_at_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the next renewal, which does not come here."""
    monkeypatch.setattr("libs.bus.presence._RENEW_S", 100.0)
    now = record(ready=False)
    presence = Presence(bus, lambda: now)
    async with watching(bus, "thinker") as peers, running(presence.run()):
        await eventually(lambda: living(peers))
        peers.changed.clear()
        now = replace(now, ready=True, leaving=True)
        presence.changed()
        await asyncio.wait_for(peers.changed.wait(), 30)
        assert [(r.ready, r.leaving) for r in peers.living()] == [(True, True)]


@pytest.mark.fact("H9")
async def test_a_process_that_was_killed_is_gone_after_the_ttl(bus: Bus, broker: Broker) -> None:
    async with connect(broker.url, "killed", NoTelemetry()) as other, watching(bus, "thinker") as peers:
        presence = asyncio.create_task(Presence(other, record).run())
        await eventually(lambda: living(peers) == ["one"])
        began = asyncio.get_running_loop().time()
        await other.client.close()
        presence.cancel()
        await asyncio.gather(presence, return_exceptions=True)
        assert living(peers) == ["one"], "nobody has told of its end"
        await eventually(lambda: living(peers) == [], within=2 * PRESENCE_TTL_S + 2)
        await until(lambda: is_there(bus), within=2 * PRESENCE_TTL_S + 2, what="the key's end")
        assert asyncio.get_running_loop().time() - began > PRESENCE_TTL_S / 2


@pytest.mark.fact("H9")
async def test_while_the_broker_is_silent_nobody_counts_as_gone(bus: Bus, broker: Broker) -> None:
    """As while brokers elect a leader, for longer than the TTL: nobody could renew. Then the dead are."""
    async with (
        connect(broker.url, "lives", NoTelemetry()) as one,
        connect(broker.url, "dies", NoTelemetry()) as other,
        watching(bus, "thinker") as peers,
        present(one, record("a")),
    ):
        dying = asyncio.create_task(Presence(other, lambda: record("b")).run())
        await eventually(lambda: living(peers) == ["a", "b"])
        await other.client.close()
        broker.pause()
        try:
            await held_for(PRESENCE_TTL_S + 2, lambda: living(peers) == ["a", "b"])
        finally:
            broker.resume()
        await eventually(lambda: living(peers) == ["a"], within=3 * PRESENCE_TTL_S + 2)
        await held_for(PRESENCE_TTL_S / 2, lambda: living(peers) == ["a"])
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)


@pytest.mark.fact("H9")
async def test_a_renewal_that_is_lost_is_repeated_before_the_key_expires(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        connect(broker.url, "other", NoTelemetry()) as other,
        watching(bus, "thinker") as peers,
        present(other, record()),
    ):
        await eventually(lambda: living(peers) == ["one"])
        publish, lost = other.publish, list[str]()

        async def lossy(subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
            if lost:
                return await publish(subject, data, headers)
            lost.append(subject)
            await asyncio.sleep(PRESENCE_TTL_S)
            raise OutcomeUnknown(subject, "no ack")

        monkeypatch.setattr(other, "publish", lossy)
        await held_for(PRESENCE_TTL_S + 2, lambda: living(peers) == ["one"])
        assert lost


async def held_for(seconds: float, check: Callable[[], bool]) -> None:
    """A condition stays true for so long while this process does not stand still: nobody renews meanwhile."""
    clock = asyncio.get_running_loop().time
    begun = looked = clock()
    while clock() - begun < seconds:
        if clock() - looked > STOOD_STILL_S:
            await asyncio.sleep(PRESENCE_TTL_S / 2)
            await eventually(check)
            begun = clock()
        assert check()
        looked = clock()
        await asyncio.sleep(0.1)


@pytest.mark.fact("H9")
async def test_a_process_that_lives_stays_longer_than_the_ttl(bus: Bus) -> None:
    async with watching(bus, "thinker") as peers, present(bus, record()):
        await eventually(lambda: living(peers) == ["one"])
        await held_for(PRESENCE_TTL_S + 1, lambda: living(peers) == ["one"])
        await until(lambda: is_there(bus, "one"))


async def test_of_two_processes_of_one_name_the_newer_stays(bus: Bus) -> None:
    """The older one is told, and its end takes nothing from the newer one."""
    older = asyncio.create_task(Presence(bus, lambda: record(boot="old")).run())
    await until(lambda: is_there(bus, "one"))
    newer = record(boot="new", since=SINCE + timedelta(seconds=1))
    async with watching(bus, "thinker") as peers, present(bus, newer):
        await eventually(lambda: [r.boot for r in peers.living()] == ["new"])
        with pytest.raises(InstanceTaken, match="another thinker took over the instance name 'one'"):
            await asyncio.wait_for(older, 30)
        await bus.client.flush()
        assert [found.boot for found in await list_present(bus) if found.service == "thinker"] == ["new"]
        assert [found.boot for found in peers.living()] == ["new"]


@pytest.mark.fact("H9")
async def test_who_leaves_while_a_renewal_is_under_way_leaves_at_once(bus: Bus) -> None:
    """Its ack is lost with the task, and with it the revision that the last word expects."""
    for _ in range(20):
        presence = Presence(bus, record)
        task = asyncio.create_task(presence.run())
        await until(lambda: is_there(bus, "one"))
        presence.changed()
        for _ in range(4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await is_there(bus)


@pytest.mark.fact("H7")
async def test_what_has_ended_a_process_is_its_last_word_until_it_is_back(bus: Bus) -> None:
    now = record()
    async with watching(bus, "thinker") as peers:
        task = asyncio.create_task(Presence(bus, lambda: now).run())
        await until(lambda: is_there(bus, "one"))
        now = replace(now, ready=False, leaving=True, ended="ValueError: x")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert "ValueError: x" in [found.ended for found in await list_present(bus)]
        await eventually(lambda: [r.leaving for r in peers.living()] == [True])
        async with present(bus, record(boot="again")):
            await eventually(lambda: [r.leaving for r in peers.living()] == [False])
    await until(lambda: is_there(bus), within=2 * PRESENCE_TTL_S + 2)


async def test_a_restarted_process_takes_its_name_back(bus: Bus) -> None:
    """Killed and started again at once: its old key has not expired yet."""
    first = asyncio.create_task(Presence(bus, lambda: record(boot="first")).run())
    await until(lambda: is_there(bus, "one"))
    first.cancel()
    async with present(bus, record(boot="second", since=SINCE + timedelta(seconds=1))):

        async def is_second() -> bool:
            return [found.boot for found in await list_present(bus)] == ["second"]

        await until(is_second)


async def test_a_process_whose_clock_was_set_back_takes_the_name_of_its_dead_predecessor(bus: Bus) -> None:
    """Found by a storm: it believed that the dead one had come later, and ended."""
    first = asyncio.create_task(Presence(bus, lambda: record(boot="first")).run())
    await until(lambda: is_there(bus, "one"))
    first.cancel()
    async with present(bus, record(boot="second", since=SINCE - timedelta(days=1))):

        async def is_second() -> bool:
            return [found.boot for found in await list_present(bus)] == ["second"]

        await until(is_second)


async def test_presence_outlives_the_broker(bus: Bus, broker: Broker) -> None:
    async with watching(bus, "thinker") as peers, present(bus, record()):
        await eventually(lambda: living(peers) == ["one"])
        await restart(broker)
        await held_for(PRESENCE_TTL_S + 1, lambda: living(peers) == ["one"])


async def test_one_of_several_is_in_charge_and_another_when_it_leaves(bus: Bus) -> None:
    async with watching(bus, "compressor") as peers:
        charge = {name: in_charge(peers, "compressor", name) for name in ("a", "b")}
        first = chosen(["a", "b"], "compressor")
        assert first is not None
        other = "b" if first == "a" else "a"
        async with present(bus, record(other, "compressor")):
            async with present(bus, record(first, "compressor")):
                await eventually(lambda: len(living(peers)) == 2)
                assert (charge[first](), charge[other]()) == (True, False)
            await eventually(lambda: charge[other]())
        async with (
            present(bus, record(other, "compressor")),
            present(bus, record(first, "compressor", leaving=True)),
        ):
            await eventually(lambda: len(living(peers)) == 2)
            assert charge[other](), "the first one is on its way out"
