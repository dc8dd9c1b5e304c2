"""The registry's buckets follow its journal, never backwards, and it is trimmed behind them [2.2]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from libs.bus.connection import Bus, connect
from libs.bus.provision import provision
from libs.bus.read import last_of
from libs.bus.telemetry import NoTelemetry
from libs.contracts import streams, subjects
from libs.contracts.control import StartCognitionRequest
from libs.contracts.personas import DependenciesRequest, PersonaStatus, ReapPersonaRequest
from libs.contracts.registry import StoredLoop, StoredPersona
from libs.contracts.streams import StreamBounds
from services.registry.dependencies import set_dependencies
from tests.bus.support import held, restart
from tests.services.support import Registry, registry, registry_records
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import NOW, create

pytestmark = pytest.mark.usefixtures("announced")

EVERYTHING = 2**40
REAP = ReapPersonaRequest()


@pytest.fixture
async def two(bus: Bus, broker: Broker) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two registries that both believe they are in charge of the buckets."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(connect(broker.url, "other", NoTelemetry()))
        yield (
            await stack.enter_async_context(registry(bus, number=1)),
            await stack.enter_async_context(registry(other, number=2)),
        )


async def stored(bus: Bus, persona_id: str) -> StoredPersona | None:
    found = await last_of(bus, streams.PERSONAS, subjects.persona_key(persona_id))
    return msgspec.json.decode(found.data, type=StoredPersona) if found is not None else None


async def everything(bus: Bus) -> dict[str, StoredPersona]:
    values = [msgspec.json.decode(m.data, type=StoredPersona) for m in await held(bus, streams.PERSONAS)]
    return {value.record.identity.id: value for value in values}


async def loop_of(bus: Bus) -> StoredLoop | None:
    found = await last_of(bus, streams.CONTROL, subjects.LOOP_KEY)
    return msgspec.json.decode(found.data, type=StoredLoop) if found is not None else None


async def written(*registries: Registry) -> None:
    for one in registries:
        await eventually(lambda: one.buckets.written == one.tail.sequence, what="the buckets")  # noqa: B023


async def start(one: Registry, interval_ms: int = 2000) -> None:
    request = StartCognitionRequest(loop_interval_ms=interval_ms)
    await one.committer.commit(lambda view: one.rules.start(view, request))


async def agree(bus: Bus, one: Registry) -> bool:
    """Whether the buckets hold what the roster says, with the journal sequence of each one's last change."""
    assert await everything(bus) == {
        name: StoredPersona(sequence=one.roster.changed_at(name), record=record)
        for name, record in one.roster.personas.items()
    }
    return True


@pytest.mark.fact("2.2")
async def test_the_buckets_follow_every_change(bus: Bus) -> None:
    async with registry(bus) as one:
        await one.create(create("p", swarm_id="s"))
        await one.create(create("odd id/…", "p"))
        await start(one, 500)
        await eventually(lambda: agree(bus, one))
        await one.reaper.reap("p", REAP)
        await written(one)
        assert await agree(bus, one)
        value, loop = await stored(bus, "p"), await loop_of(bus)
        assert value is not None and value.record.status is PersonaStatus.REAPED
        assert loop is not None and loop.loop == one.roster.loop
        assert (loop.sequence, loop.loop.interval_ms) == (one.roster.loop_changed_at, 500)


@pytest.mark.fact("A15")
async def test_dependencies_are_kept_in_the_buckets(bus: Bus, broker: Broker) -> None:
    """They outlive the record that set them, and every process that knew it."""
    async with registry(bus) as one:
        await one.create(create("p"))
        await one.create(create("q"))
        request = DependenciesRequest(waiting_for=["q"])
        await one.committer.commit(lambda view: set_dependencies(view, "p", request, NOW))
        await written(one)
        await one.tail.trim(one.tail.sequence)
    async with connect(broker.url, "later", NoTelemetry()) as later:
        other = Registry(later, number=2)
        await other.load()
        assert other.roster.personas["p"].waiting_for == ["q"]
        assert other.roster.dependents["q"] == {"p"}


@pytest.mark.fact("2.2")
async def test_an_older_writer_never_overwrites_what_is_newer(bus: Bus) -> None:
    """It was stopped for long and knows neither the newer record nor the bucket's revision."""
    old = Registry(bus, number=1)
    await old.load()
    async with registry(bus, number=2) as new:
        await new.create(create("p"))
        await old.tail.catch_up()
        await new.reaper.reap("p", REAP)
        await written(new)
        newest = await stored(bus, "p")
    writing = asyncio.create_task(old.buckets.run(old.tail))
    try:
        await written(old)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert newest is not None and newest.record.status is PersonaStatus.REAPED
    assert await stored(bus, "p") == newest


@pytest.mark.fact("2.2")
async def test_two_writers_at_once_end_with_the_newest(bus: Bus, two: tuple[Registry, Registry]) -> None:
    names = [f"p{n}" for n in range(20)]
    await asyncio.gather(*[two[n % 2].create(create(name)) for n, name in enumerate(names)])
    for one in two:
        await one.tail.sync()
    await asyncio.gather(*[two[n % 2].reaper.reap(name, REAP) for n, name in enumerate(names[:10])])
    for n in range(10):
        await start(two[n % 2], 1000 + n)
    for one in two:
        await one.tail.sync()
    await eventually(lambda: not two[0].roster.unannounced())
    await written(*two)
    assert await agree(bus, two[0])
    loop = await loop_of(bus)
    assert loop is not None and loop.loop == two[0].roster.loop
    assert loop.loop.interval_ms == 1009


@pytest.mark.fact("2.2")
async def test_only_the_one_in_charge_writes_and_a_successor_catches_up(bus: Bus) -> None:
    async with registry(bus, in_charge=False) as standby:
        async with registry(bus, number=2) as first:
            await first.create(create("p"))
            await written(first)
        await standby.create(create("q"))
        await standby.tail.sync()
        assert (await everything(bus)).keys() == {"p"}
        standby.in_charge = True
        await written(standby)
        assert (await everything(bus)).keys() == {"p", "q"}


@pytest.mark.fact("2.2")
async def test_the_journal_is_trimmed_to_what_buckets_and_streams_both_hold(bus: Bus) -> None:
    async with registry(bus) as one:
        for n in range(110):
            await one.create(create(f"p{n}"))
        await written(one)
        assert len(await registry_records(bus)) == 110, "nothing is public yet"
        one.position.advance(12)
        await eventually(lambda: one.tail.held == 98)
        assert [record.number for record in await registry_records(bus)] == list(range(13, 111))
        one.position.advance(EVERYTHING)
        await eventually(lambda: one.tail.held == 64, what="what followers may still need")
        assert [record.number for record in await registry_records(bus)] == list(range(47, 111))
    async with registry(bus, number=2) as next_one:
        assert next_one.roster.personas == one.roster.personas
        assert next_one.roster.number == 110


@pytest.mark.fact("2.2")
async def test_a_registry_that_starts_on_a_trimmed_journal_has_everybody_and_goes_on(bus: Bus) -> None:
    async with registry(bus) as one:
        one.position.advance(EVERYTHING)
        await start(one, 700)
        for n in range(100):
            await one.create(create(f"p{n}"))
        await eventually(lambda: one.tail.held < 96)
    async with registry(bus, number=2) as two:
        assert two.roster.personas == one.roster.personas
        assert two.roster.loop == one.roster.loop
        await two.create(create("next", "p0"))
        await written(two)
        assert await agree(bus, two)


@pytest.mark.fact("2.2")
async def test_a_deleted_bucket_is_written_anew_from_an_untrimmed_journal(bus: Bus) -> None:
    async with registry(bus) as one:
        await one.create(create("p"))
        await one.create(create("q"))
        await written(one)
        for bucket in (streams.PERSONAS, streams.CONTROL):
            await bus.api(f"STREAM.DELETE.{bucket}")
        await provision(bus, StreamBounds())
        await one.reaper.reap("p", REAP)
        await written(one)
        assert (await everything(bus)).keys() == {"p"}, "a living registry writes what changes"
    async with registry(bus, number=2) as two:
        await written(two)
        assert two.roster.personas.keys() == {"p", "q"}
        assert await agree(bus, two), "one that starts writes all it folds"


@pytest.mark.fact("2.2")
async def test_keys_that_a_person_deleted_are_written_anew(bus: Bus) -> None:
    """`nats kv del` leaves an empty value, which nobody else ever writes."""
    async with registry(bus) as one:
        await start(one)
        await one.create(create("p"))
        await written(one)
        for key in (subjects.LOOP_KEY, subjects.persona_key("p")):
            await bus.publish(key, b"", {"KV-Operation": "DEL"})
        await start(one, 900)
        await one.reaper.reap("p", REAP)
        await written(one)
        loop, persona = await loop_of(bus), await stored(bus, "p")
        assert loop is not None and loop.loop.interval_ms == 900
        assert persona is not None and persona.record.status is PersonaStatus.REAPED


async def test_a_loop_of_which_only_its_change_is_left_ends_no_registry(bus: Bus) -> None:
    """Found by reading: registry and schedulers ended at every start until the key was restored."""
    async with registry(bus, in_charge=False) as one:
        await start(one)
        await start(one, 900)
        changed = one.roster.loop_changed_at
    await bus.publish(subjects.LOOP_KEY, b"{")
    await bus.api("STREAM.PURGE.JOURNAL", {"filter": subjects.JOURNAL_REGISTRY, "seq": changed})
    async with registry(bus) as two:
        assert two.roster.loop is None
        await start(two, 700)
        await written(two)
        loop = await loop_of(bus)
        assert loop is not None and loop.loop.interval_ms == 700


@pytest.mark.fact("2.2")
async def test_a_broker_that_dies_costs_the_buckets_nothing(bus: Bus, broker: Broker) -> None:
    async with registry(bus) as one:
        creating = [asyncio.create_task(one.create(create(f"p{n}"))) for n in range(50)]
        await eventually(lambda: one.roster.number > 0)
        await restart(broker)
        await asyncio.wait_for(asyncio.gather(*creating), 60)
        await written(one)
        assert await agree(bus, one)


@pytest.mark.fact("H1")
async def test_a_registry_that_starts_while_records_are_made_and_trimmed_reads_the_buckets_once_more(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a storm it ended itself over the missing records, and was started once more."""
    async with registry(bus) as one, connect(broker.url, "late", NoTelemetry()) as other:
        await one.create(create("p1"))
        late = Registry(other, in_charge=False, number=2)
        catch_up, first = late.tail.catch_up, [True]

        async def behind() -> int:
            if first:
                first.clear()
                for name in ("p2", "p3", "p4"):
                    await one.create(create(name))
                await written(one)
                await one.tail.trim(EVERYTHING)
            return await catch_up()

        monkeypatch.setattr(late.tail, "catch_up", behind)
        await late.load()
        assert not first and set(late.roster.personas) >= {"p1", "p2", "p3", "p4"}
        assert (late.roster.number, late.tail.sequence) == (one.roster.number, one.tail.sequence)
