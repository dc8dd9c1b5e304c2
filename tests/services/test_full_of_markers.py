"""Shards that fill with markers hold up nobody else, and can be taken over again [2.9, 3.3, 4.2]."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.contracts import streams, subjects
from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import Reaped, ShardRecord
from libs.contracts.limits import JOURNAL_DEPTH, MARKER_ROOM, SHARDS
from libs.contracts.personas import ReapPersonaRequest
from libs.contracts.refusals import Unavailable
from libs.contracts.registry import LoopPhase
from libs.contracts.tokens import shard_of
from libs.journal.position import PublicPosition
from libs.journal.tail import append_marker
from services.scheduler.owner import Fenced
from tests.bus.support import held
from tests.services.support import Registry, owner, registry, registry_records, shard_records
from tests.services.test_shard_owners import owning
from tests.services.test_stops import runner
from tests.support.eventually import eventually
from tests.unit.make import create, shard_record, thought

SHARD = 3


async def mark(bus: Bus, shard: int, markers: int) -> None:
    """Put so many markers into a shard's journal."""
    marker = msgspec.json.encode(ShardRecord(reap=["gone"]))
    await asyncio.gather(*(append_marker(bus, subjects.journal(shard), marker) for _ in range(markers)))


async def make_room(bus: Bus, shard: int) -> None:
    """Leave one record of a shard's journal."""
    body = {"filter": subjects.journal(shard), "keep": 1}
    await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", body)


async def lengths(bus: Bus) -> Counter[int]:
    """How many shards' journals hold so many records, of those that hold any."""
    subject = Counter(stored.subject for stored in await held(bus, streams.JOURNAL, "j.*"))
    return Counter(count for name, count in subject.items() if name != subjects.JOURNAL_REGISTRY)


async def left_full(bus: Bus, position: PublicPosition) -> None:
    """A shard is taken over, left, and full of markers that are public."""
    async with owning(owner(bus, SHARD, "old")) as runs:
        assert not runs.done()
    await mark(bus, SHARD, JOURNAL_DEPTH - 1)
    position.advance(10**9)


@pytest.mark.fact("3.3")
async def test_a_shard_that_markers_fill_while_nobody_owns_it_is_taken_over_again(bus: Bus) -> None:
    position = PublicPosition()
    await left_full(bus, position)
    new = owner(bus, SHARD, "new", position)
    async with asyncio.timeout(30):
        await new.take_over()
    assert new.ledger.reaped == {"gone"}
    (marker, claim) = await shard_records(bus, SHARD)
    assert (marker.reap, claim.claim, claim.number) == (["gone"], True, 2)


@pytest.mark.fact("2.9", "3.3")
async def test_an_owner_that_wakes_while_the_next_one_makes_room_stores_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last marker is trimmed before the claim stands: it has missed whom the others reaped."""
    position = PublicPosition()
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new", position)
    async with owning(old) as runs:
        await old.submit([thought("p", 1)])
        await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, reap=["p"]))
        await mark(bus, SHARD, JOURNAL_DEPTH - 3)
        position.advance(10**9)
        claim = new._claim

        async def meanwhile() -> None:
            (left,) = await shard_records(bus, SHARD)
            assert left.reap == ["gone"]
            with pytest.raises(Fenced):
                await old.submit([thought("p", 2)])
            with pytest.raises(Fenced):
                await asyncio.wait_for(runs, 30)
            await claim()

        monkeypatch.setattr(new, "_claim", meanwhile)
        async with asyncio.timeout(60):
            await new.take_over()
    assert new.ledger.reaped == {"p", "gone"}
    assert [record.number for record in await shard_records(bus, SHARD)] == [None, 3]


async def test_a_takeover_that_has_no_room_waits_outside_its_slot_and_takes_no_marker_s_place(
    bus: Bus,
) -> None:
    position = PublicPosition()
    await mark(bus, SHARD, JOURNAL_DEPTH - MARKER_ROOM)
    slot = asyncio.Semaphore(1)
    waiting, other = owner(bus, SHARD, "new", position), owner(bus, SHARD + 1, "new", position)
    taking = asyncio.create_task(waiting.take_over(slot))
    async with asyncio.timeout(30):
        await other.take_over(slot)
    await asyncio.wait([taking], timeout=1.5)
    assert not taking.done()
    assert len(await shard_records(bus, SHARD)) == JOURNAL_DEPTH - MARKER_ROOM
    position.advance(10**9)
    await asyncio.wait_for(taking, 30)


async def test_a_takeover_that_waits_for_room_ends_where_the_shard_is_another_s(bus: Bus) -> None:
    await mark(bus, SHARD, JOURNAL_DEPTH)
    waiting = owner(bus, SHARD, "new")
    taking = asyncio.create_task(waiting.take_over())
    await asyncio.wait([taking], timeout=0.8)
    assert not taking.done()
    waiting.close()
    with pytest.raises(Fenced):
        await asyncio.wait_for(taking, 30)


async def announced(bus: Bus) -> set[str]:
    changes = [change for record in await registry_records(bus) for change in record.changes]
    return {name for change in changes if isinstance(change, Reaped) for name in change.persona_ids}


@pytest.mark.fact("4.2")
async def test_a_stop_that_a_full_shard_holds_up_marks_each_other_shard_once(bus: Bus) -> None:
    async with registry(bus) as one:
        stopping = runner(one)
        await one.committer.commit(lambda view: one.rules.start(view, StartCognitionRequest()))
        await mark(bus, SHARD, JOURNAL_DEPTH)
        for _ in range(3):
            with pytest.raises(Unavailable, match="not every shard could be halted"):
                await stopping.stop("a test")
        assert await lengths(bus) == {JOURNAL_DEPTH: 1, 1: SHARDS - 1}
        await make_room(bus, SHARD)
        assert (await stopping.stop("a test")).phase is LoopPhase.STOPPED
        assert await lengths(bus) == {2: 1, 1: SHARDS - 1}


def name_in(shard: int, *, other: bool = False) -> str:
    """A persona's name whose shard it is, or is not."""
    return next(name for name in map(str, range(10_000)) if (shard_of(name) == shard) is not other)


async def spawn_and_reap(one: Registry, name: str) -> None:
    await one.create(create(name))
    await one.reaper.reap(name, ReapPersonaRequest())


@pytest.mark.fact("2.9")
async def test_a_full_shard_holds_up_nobody_else_s_reap(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its personas wait: one is announced at once here, and the full shard's is the first."""
    monkeypatch.setattr("services.registry.reaping.REAPED_AT_ONCE", 1)
    full, other = name_in(SHARD), name_in(SHARD, other=True)
    async with registry(bus) as one:
        await mark(bus, SHARD, JOURNAL_DEPTH)
        await spawn_and_reap(one, full)
        await spawn_and_reap(one, other)
        await eventually(lambda: announced_is(bus, {other}), what="the other's reap is announced")
        await make_room(bus, SHARD)
        await eventually(lambda: announced_is(bus, {full, other}), what="both are")
        assert await lengths(bus) == {1: 1, 2: 1}, "each shard is marked once"


async def announced_is(bus: Bus, names: set[str]) -> bool:
    return await announced(bus) == names
