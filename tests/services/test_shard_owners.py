"""Two processes own one shard at once, as when presence is wrong: the journal stays right [3.3]."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from libs.bus.connection import Bus, connect
from libs.bus.endpoints import Request
from libs.bus.loop import Postpone
from libs.bus.read import Stored
from libs.bus.telemetry import NoTelemetry
from libs.contracts import subjects
from libs.contracts.journal import ItemArrived, JournalEvent, ShardRecord, ThoughtEntry
from libs.contracts.limits import JOURNAL_DEPTH
from libs.contracts.thoughts import OwnEventType
from libs.contracts.work import Grant, GrantRequest, Settled
from libs.journal.position import PublicPosition
from libs.journal.tail import append_marker
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.checkpoint import Checkpoints
from services.scheduler.ledger import Ledger
from services.scheduler.notes import Note
from services.scheduler.owner import Fenced, ShardOwner
from tests.bus.support import restart
from tests.services.support import handlers, owner, shard_records
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import shard_record, thought

SHARD = 3


@asynccontextmanager
async def owning(one: ShardOwner) -> AsyncIterator[asyncio.Task[None]]:
    """Take over and commit while the context is open; how it ended is up to the test."""
    await one.take_over()
    task = asyncio.create_task(one.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def counts(records: list[ShardRecord]) -> dict[str, list[int]]:
    """The thought counts of each persona in the order of the journal."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in records:
        for entry in record.thoughts:
            found[entry.persona_id].append(entry.thought_count)
    return found


def whole(records: list[ShardRecord]) -> bool:
    """Whether no record number, and nobody's thought count, is missing or there twice."""
    numbers = [record.number for record in records if record.number is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    for persona_id, seen in counts(records).items():
        assert seen == list(range(1, len(seen) + 1)), persona_id
    return True


def next_of(one: ShardOwner, persona_id: str) -> ThoughtEntry:
    """The thought that this owner takes for the persona's next."""
    return entry(persona_id, one.ledger.persona(persona_id).count + 1)


def entry(persona_id: str, count: int, who: str = "?") -> ThoughtEntry:
    return thought(persona_id, count, text=f"by {who}")


@pytest.mark.fact("3.3")
async def test_the_overtaken_owner_lets_go_and_stores_nothing(bus: Bus) -> None:
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new")
    async with owning(old) as old_runs:
        assert await old.submit([entry("p", 1)]) == Settled(stored=1, stale=0)
        async with owning(new) as new_runs:
            late = asyncio.create_task(old.submit([entry("p", 2, "old")]))
            with pytest.raises(Fenced, match="shard 3 was taken over by new"):
                await asyncio.wait_for(old_runs, 30)
            with pytest.raises(Fenced):
                await late
            assert await new.submit([entry("p", 2, "new")]) == Settled(stored=1, stale=0)
            assert not new_runs.done()
    records = await shard_records(bus, SHARD)
    assert whole(records) and counts(records) == {"p": [1, 2]}
    assert [record.owner for record in records if record.thoughts] == ["old", "new"]


@pytest.mark.fact("3.3")
async def test_an_owner_that_wakes_behind_a_trimmed_journal_lets_go_too(bus: Bus) -> None:
    """Found by a storm: what it lacked was trimmed by the next owner, and the whole scheduler ended."""
    position = PublicPosition()
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new", position)
    async with owning(old) as old_runs:
        await old.submit([entry("p", 1)])
        async with owning(new):
            for count in (2, 3, 4):
                await new.submit([entry("p", count)])
            position.advance(10**9)
            new.tidy(0)
            await eventually(lambda: is_trimmed(bus), what="a trimmed journal")
            late = asyncio.create_task(old.submit([entry("p", 2)]))
            with pytest.raises(Fenced):
                await asyncio.wait_for(old_runs, 30)
            with pytest.raises(Fenced):
                await late
            assert await new.submit([entry("p", 5)]) == Settled(stored=1, stale=0)


@pytest.mark.fact("3.3")
async def test_an_owner_that_wakes_where_only_a_marker_came_last_lets_go_too(bus: Bus) -> None:
    """Found by a storm: a marker has no number, so nothing showed that records were missing before it."""
    position = PublicPosition()
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new", position)
    async with owning(old) as old_runs:
        await old.submit([entry("p", 1)])
        async with owning(new):
            await store_and_trim_behind_a_marker(bus, new, position)
            late = asyncio.create_task(old.submit([entry("p", 2, "old")]))
            with pytest.raises(Fenced):
                await asyncio.wait_for(old_runs, 30)
            with pytest.raises(Fenced):
                await late
            assert await new.submit([entry("p", 5)]) == Settled(stored=1, stale=0)
    assert all(record.owner != "old" for record in await shard_records(bus, SHARD))


@pytest.mark.fact("3.3")
async def test_who_takes_over_from_a_checkpoint_that_was_replaced_claims_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = PublicPosition()
    held, late = owner(bus, SHARD, "held", position), owner(bus, SHARD, "late")
    async with owning(held) as runs:
        await held.submit([entry("p", 1)])
        load = Checkpoints.load

        async def meanwhile(checkpoints: Checkpoints, ledger: Ledger) -> None:
            await load(checkpoints, ledger)
            await store_and_trim_behind_a_marker(bus, held, position)

        monkeypatch.setattr(Checkpoints, "load", meanwhile)
        with pytest.raises(Fenced):
            await late.take_over()
        assert await held.submit([entry("p", 5)]) == Settled(stored=1, stale=0)
        assert not runs.done()
    numbers = [record.number for record in await shard_records(bus, SHARD) if record.number is not None]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "the publisher finds no hole"


async def store_and_trim_behind_a_marker(bus: Bus, one: ShardOwner, position: PublicPosition) -> None:
    """Thoughts 2 to 4, then a persona is reaped, and everything is published and trimmed."""
    for count in (2, 3, 4):
        await one.submit([entry("p", count)])
    await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, reap=["gone"]))
    position.advance(10**9)
    one.tidy(0)
    await eventually(lambda: is_trimmed(bus), what="a trimmed journal")


@pytest.mark.fact("2.9")
async def test_of_who_is_reaped_while_a_note_waits_only_dropped_items_follow(bus: Bus) -> None:
    """Found by a storm: what came for a persona was announced behind its end."""

    def event(persona_id: str, kind: OwnEventType) -> JournalEvent:
        return JournalEvent("s", persona_id, kind, msgspec.Raw(b"{}"))

    received, dropped = OwnEventType.INBOX_RECEIVED, OwnEventType.INBOX_DROPPED
    said = [event("gone", received), event("p", received), event("gone", dropped)]
    arrived = [ItemArrived(name, sequence, 50, b"", b"") for sequence, name in enumerate(("gone", "p"), 1)]
    one = owner(bus, SHARD, "one")
    async with owning(one):
        await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, reap=["gone"]))
        await one.note(Note(events=said, arrived=arrived, received=2, traces={1: "of p"}))
    record = (await shard_records(bus, SHARD))[-1]
    assert [(one.persona_id, one.event_type) for one in record.events] == [("p", received), ("gone", dropped)]
    assert [item.persona_id for item in record.arrived] == ["p"]
    assert (record.received, record.event_traces) == (2, {0: "of p"})


@pytest.mark.fact("3.2")
async def test_an_overtaken_owner_refuses_no_work_that_the_next_one_has_dispatched(bus: Bus) -> None:
    """Found by a storm: it said that nothing of it was wanted, and the persona waited until it was missed."""
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new")
    asked = GrantRequest(chunk="c", shard=SHARD, sequence=1, deliveries=1, thinker="t")
    async with owning(old) as old_runs:
        roster = Roster()
        answers = handlers(old, Bank(old, roster), roster)
        granted = await answers.grant(asked, Request("s", b"", None))
        assert msgspec.json.decode(granted, type=Grant).items == [], "it is the owner: nobody wants it"
        async with owning(new):
            with pytest.raises(Postpone):
                await answers.grant(asked, Request("s", b"", None))
            with pytest.raises(Fenced):
                await asyncio.wait_for(old_runs, 30)


@pytest.mark.fact("3.2")
async def test_a_read_that_was_begun_before_the_question_answers_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading: it found the shard still ours, and work of the next owner was refused."""
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new")
    async with owning(old):
        read, goes_on, last = asyncio.Event(), asyncio.Event(), old._tail._last

        async def held_back() -> Stored | None:
            found = await last()
            read.set()
            await goes_on.wait()
            return found

        monkeypatch.setattr(old._tail, "_last", held_back)
        first = old.confirm()
        await asyncio.wait_for(read.wait(), 30)
        async with owning(new):
            second = old.confirm()
            goes_on.set()
            await asyncio.wait_for(first, 30)
            with pytest.raises(Fenced):
                await asyncio.wait_for(second, 30)


async def test_a_shard_at_rest_keeps_no_markers(bus: Bus) -> None:
    """However many personas are reaped while nobody thinks, there is room for the next marker."""
    position = PublicPosition()
    one = owner(bus, SHARD, "one", position)
    async with owning(one):
        for number in range(2 * JOURNAL_DEPTH):
            await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, reap=[f"p{number}"]))
            if number % (JOURNAL_DEPTH // 2) == 0:
                position.advance(10**9)
                one.tidy(0)
                await eventually(lambda: is_trimmed(bus), what="a trimmed journal")
        assert one.ledger.reaped >= {"p0", f"p{JOURNAL_DEPTH}"}


async def is_trimmed(bus: Bus) -> bool:
    return len(await shard_records(bus, SHARD)) == 1


@pytest.mark.fact("3.3")
async def test_an_owner_that_learns_by_a_later_thought_that_it_was_overtaken_lets_go_too(bus: Bus) -> None:
    """Results reach both; the old owner must not throw the rightful one out by what it caught up with."""
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new")
    async with owning(old) as old_runs, owning(new) as new_runs:
        await new.submit([entry("p", 1, "new")])
        late = asyncio.create_task(old.submit([entry("p", 2, "old")]))
        with pytest.raises(Fenced):
            await asyncio.wait_for(old_runs, 30)
        await asyncio.gather(late, return_exceptions=True)
        assert await new.submit([entry("p", 2, "new")]) == Settled(stored=1, stale=0)
        assert not new_runs.done()
    assert whole(await shard_records(bus, SHARD))


@pytest.mark.fact("3.3")
async def test_a_thought_that_two_owners_submit_is_stored_by_one_of_them(bus: Bus) -> None:
    one, other = owner(bus, SHARD, "one"), owner(bus, SHARD, "other")
    async with owning(one), owning(other):
        both = [o.submit([entry("p", 1, name)]) for o, name in ((one, "one"), (other, "other"))]
        done = await asyncio.gather(*both, return_exceptions=True)
        assert done == [done[0], Settled(stored=1, stale=0)], "the last to claim is the owner"
        assert isinstance(done[0], Fenced)
    assert counts(await shard_records(bus, SHARD)) == {"p": [1]}


@pytest.mark.fact("2.9")
async def test_a_marker_overtakes_an_append_but_not_the_owner(bus: Bus) -> None:
    """It folds the marker, judges again, stores what is still wanted and goes on owning the shard."""
    one = owner(bus, SHARD, "one")
    async with owning(one) as runs:
        await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, reap=["gone"]))
        settled = await one.submit([entry("gone", 1), entry("p", 1)])
        assert (settled, runs.done()) == (Settled(stored=1, stale=1), False)
        await append_marker(bus, subjects.journal(SHARD), shard_record(number=None, halt=1))
        assert await one.submit([entry("p", 2)]) == Settled(stored=0, stale=1)
        assert await one.submit([thought("p", 2, run=2)]) == Settled(stored=1, stale=0)
    assert counts(await shard_records(bus, SHARD)) == {"p": [1, 2]}


async def think_on(one: ShardOwner, thoughts: int) -> int:
    """Have so many thoughts stored one after another, unless the owner is fenced; how many were.

    They are stale where the same ones were on their way already, and the owner had not heard of it yet.
    """
    stored = 0
    for _ in range(thoughts):
        try:
            settled = await one.submit([next_of(one, "p"), next_of(one, "q")])
        except Fenced:
            break
        assert settled in (Settled(stored=2, stale=0), Settled(stored=0, stale=2))
        stored += settled.stored // 2
    return stored


@pytest.mark.fact("3.3")
async def test_a_shard_taken_over_again_and_again_amid_appends_has_no_gap_and_no_repeat(
    bus: Bus, broker: Broker
) -> None:
    """Old owners' appends get before the claim or come too late; what the journal holds decides."""
    rounds, stored = 30, 0
    async with connect(broker.url, "other", NoTelemetry()) as second, AsyncExitStack() as stack:
        old = owner(bus, SHARD, "boot-0")
        await stack.enter_async_context(owning(old))
        for n in range(1, rounds):
            new = owner((bus, second)[n % 2], SHARD, f"boot-{n}")
            thinking = asyncio.create_task(think_on(old, n % 4))
            await stack.enter_async_context(owning(new))
            late, mine = await asyncio.gather(think_on(old, 2), think_on(new, 2))
            assert (late, mine) == (0, 2), "the last to claim is the owner, and the other finds out"
            stored += await thinking + mine
            old = new
    records = await shard_records(bus, SHARD)
    assert whole(records)
    assert [record.owner for record in records if record.claim] == [f"boot-{n}" for n in range(rounds)]
    assert {name: len(seen) for name, seen in counts(records).items()} == dict.fromkeys("pq", stored)


@pytest.mark.fact("3.3")
async def test_a_broker_that_dies_under_an_owner_costs_and_doubles_nothing(bus: Bus, broker: Broker) -> None:
    one = owner(bus, SHARD, "one")
    async with owning(one) as runs:
        for count in range(1, 10):
            storing = asyncio.create_task(one.submit([entry("p", count)]))
            if count % 3 == 0:
                await restart(broker)
                await eventually(lambda: bus.connected)
            settled = await asyncio.wait_for(storing, 30)
            assert settled == Settled(stored=1, stale=0), "also where the outcome was unknown at first"
        assert not runs.done()
    records = await shard_records(bus, SHARD)
    assert whole(records) and counts(records) == {"p": list(range(1, 10))}
