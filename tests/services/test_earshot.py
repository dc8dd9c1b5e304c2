"""Silence is told from deafness: of the broker, of the connection, and of this process itself [3.3]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from time import sleep

import msgspec
import pytest
from nats.aio.msg import Msg

from libs.bus.connection import Bus, connect
from libs.bus.endpoints import Gate, Request
from libs.bus.loop import Postpone
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts.work import Grant, GrantRequest
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.dispatches import HEARD_S
from services.scheduler.earshot import _DEAF_S, Earshot
from tests.services.support import handlers, owner
from tests.services.test_shard_owners import owning
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import chunk, entry

pytestmark = pytest.mark.fact("3.3")


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def listening(bus: Bus, gate: Gate | None = None) -> AsyncIterator[Earshot]:
    """An earshot that has heard something."""
    earshot = Earshot(bus, gate or Gate(), lambda: True)
    began = now()
    async with Background() as tasks:
        tasks.create_task(earshot.run(), name="earshot")
        await eventually(lambda: earshot._came_at > began)
        yield earshot


async def hears(earshot: Earshot, at: float) -> float:
    """Return since when all is heard that comes later than this time, once it is so without a break."""

    async def heard() -> float | None:
        since = earshot.since()
        await asyncio.sleep(_DEAF_S)
        return since if since >= at and earshot.since() == since else None

    return await eventually(heard, 60) or 0.0


def is_deaf(earshot: Earshot) -> bool:
    began = now()
    return began <= earshot.since() <= now()


async def test_while_messages_come_the_time_since_when_does_not_move(bus: Bus) -> None:
    async with listening(bus) as earshot:
        since = await hears(earshot, earshot.since())
        assert since <= now() - _DEAF_S
        assert earshot.heard_for(since) >= _DEAF_S


async def test_while_nobody_has_anything_to_say_nothing_is_sent(bus: Bus) -> None:
    wanted = False
    earshot = Earshot(bus, Gate(), lambda: wanted)
    began = earshot._came_at
    async with Background() as tasks:
        tasks.create_task(earshot.run(), name="earshot")
        await asyncio.sleep(_DEAF_S)
        assert earshot._came_at == began
        wanted = True
        assert await hears(earshot, now()) > began


async def test_a_broker_that_is_stopped_lets_nobody_be_heard(broker: Broker) -> None:
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        broker.pause()
        try:
            await asyncio.sleep(2 * _DEAF_S)
            assert is_deaf(earshot)
        finally:
            resumed = now()
            broker.resume()
        assert await hears(earshot, resumed) >= resumed


async def test_after_a_reconnect_all_is_heard_anew_however_short_it_was(broker: Broker) -> None:
    """What was said to the broker that was killed is lost."""
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        number = bus.connection_number
        killed = now()
        broker.kill()
        broker.start()
        assert await hears(earshot, killed) > killed
        assert bus.connection_number > number


async def test_before_anything_comes_by_a_new_connection_it_is_known_for_another(broker: Broker) -> None:
    """A question that comes the moment the connection is back must not find everybody silent."""
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        since: list[tuple[float, float]] = []

        async def asked(_: object) -> None:
            since.append((earshot.since(), now()))

        await bus.subscribe("asked", asked)
        broker.kill()
        killed = now()
        broker.start()
        async with connect(broker.url, "thinker", NoTelemetry()) as other:

            async def answered() -> bool:
                await other.client.publish("asked")
                return bool(since)

            await eventually(answered)
        assert killed < since[0][0] <= since[0][1]


async def test_a_process_that_stood_still_has_heard_nobody_meanwhile(bus: Bus) -> None:
    async with listening(bus) as earshot:
        sleep(1.5 * _DEAF_S)  # noqa: ASYNC251 - the whole process stands
        assert is_deaf(earshot), "before it has read anything"
        woke = now()
        assert await hears(earshot, woke) >= woke


async def test_while_words_of_thinkers_must_wait_nobody_is_silent(bus: Bus) -> None:
    stuck = asyncio.Event()

    async def wait() -> None:
        await stuck.wait()

    async with Gate(1) as gate, listening(bus, gate) as earshot:
        await gate.admit(wait())
        await asyncio.sleep(2 * _DEAF_S)
        assert is_deaf(earshot)
        stuck.set()
        freed = now()
        assert await hears(earshot, freed) >= freed


async def test_what_came_by_an_older_connection_and_a_stranger_s_word_prove_nothing(bus: Bus) -> None:
    earshot = Earshot(bus, Gate(), lambda: True)
    earshot._came_at -= 2 * _DEAF_S
    for data in (b"", b"hello", b"-1"):
        await earshot._came(Msg(bus.client, data=data))
    await earshot._came(Msg(bus.client, data=b"%d" % (bus.connection_number + 1)))
    assert is_deaf(earshot)


async def test_deaf_time_is_no_silence_but_what_was_heard_before_counts_on(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stalls again and again would never find out otherwise that a thinker has ended."""
    clock = 100.0
    earshot = Earshot(bus, Gate(), lambda: True)
    monkeypatch.setattr(earshot, "_clock", lambda: clock)
    earshot._since = earshot._came_at = clock
    for step in (1.0, 1.0, 10.0, 1.0, 1.0, 7.0):
        clock += step
        await earshot._came(Msg(bus.client, data=b"%d" % bus.connection_number))
    assert earshot.since() == clock == 121.0
    assert earshot.heard_for(100.0) == 4.0
    assert earshot.heard_for(105.0) == 2.0, "in the middle of a break"
    clock += 1.5
    assert earshot.heard_for(100.0) == 5.5
    clock += 10.0
    assert earshot.heard_for(100.0) == 4.0, "of the last break nothing was known yet"


async def test_work_of_another_is_granted_by_silence_alone(bus: Bus) -> None:
    one, roster, deaf = owner(bus, 0, "boot"), Roster(), True
    work = chunk("c", "a")
    async with owning(one):
        answers = handlers(one, Bank(one, roster), roster, heard_since=lambda: now() if deaf else -inf)
        dispatch = one.dispatches.begin(*entry(work), now(), 1)
        dispatch.granted_to, dispatch.touched = "t1", now() - 2 * HEARD_S
        asked = GrantRequest(chunk="c", shard=0, sequence=1, deliveries=2, thinker="t2")
        with pytest.raises(Postpone, match="t1 still thinks of it"):
            await answers.grant(asked, Request("s", b"", None))
        deaf = False
        granted = msgspec.json.decode(await answers.grant(asked, Request("s", b"", None)), type=Grant)
        assert [item.persona_id for item in granted.items] == ["a"]
