"""What bounds hold off: thoughts that no stream takes, journals that markers fill, owners that have ended."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.cognition.compose import Answer, compose
from libs.contracts import streams, subjects
from libs.contracts.journal import ShardRecord, ThoughtEntry
from libs.contracts.limits import EVENT_BYTES, JOURNAL_DEPTH, MARKER_ROOM, THOUGHT_BYTES
from libs.contracts.streams import StreamBounds
from libs.contracts.thoughts import Source, ThoughtEvent
from libs.contracts.work import Results, Settled
from libs.journal.position import PublicPosition
from libs.journal.tail import append_marker
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.owner import Fenced
from tests.bus.support import held
from tests.services.support import handlers, owner, shard_records
from tests.services.test_shard_owners import owning
from tests.support.eventually import eventually
from tests.unit.make import NOW, chunk, entry, item, thought

SHARD = 3


def heavy(persona_id: str) -> ThoughtEntry:
    """A thought of one event that is lighter than a thought may be, and heavier than a message."""
    event = msgspec.Raw(b'"' + b"x" * (EVENT_BYTES + 100) + b'"')
    assert EVENT_BYTES < len(bytes(event)) < THOUGHT_BYTES
    return msgspec.structs.replace(thought(persona_id, 1), events=[("thought_generated", event)])


def test_the_streams_take_what_owners_admit() -> None:
    specs = {spec.name: spec for spec in streams.specs(StreamBounds())}
    for name in (streams.EVENTS, streams.SNAPSHOTS):
        assert specs[name].config["max_msg_size"] == EVENT_BYTES


@pytest.mark.fact("3.11")
async def test_a_thought_that_no_stream_would_take_becomes_the_declared_fallback(bus: Bus) -> None:
    """Stored as it is it would stop all publishing, for ever: the journal cannot be skipped."""
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        one.dispatches.begin(*entry(chunk("c", "a")), 0.0, 1)
        roster = Roster()
        answers = handlers(one, Bank(one, roster), roster)
        results = Results(chunk="c", shard=SHARD, thinker="t", thoughts=[heavy("a")])
        answer = await answers.result(results, Request("s", b"", None))
        assert msgspec.json.decode(answer or b"", type=Settled) == Settled(stored=1, stale=0)
        (stored,) = [entry for record in await shard_records(bus, SHARD) for entry in record.thoughts]
        payload = msgspec.json.decode(stored.events[0][1], type=ThoughtEvent).payload
        assert payload["source"] == Source.FALLBACK
        assert "weighs more than" in payload["error"]


def test_what_an_endpoint_says_of_its_end_is_trimmed() -> None:
    entry = compose(item("a"), 1, Answer(text="x", model="m", finish_reason="y" * 70_000), NOW)
    assert len(bytes(entry.events[0][1])) < 2000


async def test_markers_that_fill_an_idle_journal_are_folded_and_trimmed(bus: Bus) -> None:
    """With the loop stopped nothing else makes an owner look, and reaps need room for their markers."""
    position = PublicPosition()
    one = owner(bus, SHARD, "boot", position)
    async with owning(one):
        for number in range(JOURNAL_DEPTH - MARKER_ROOM):
            marker = msgspec.json.encode(ShardRecord(reap=[f"p{number}"]))
            position.advance(await append_marker(bus, subjects.journal(SHARD), marker))
        assert not one.is_tidy(JOURNAL_DEPTH - MARKER_ROOM + 1)
        one.tidy(JOURNAL_DEPTH - MARKER_ROOM + 1)

        async def trimmed() -> bool:
            return len(await held(bus, streams.JOURNAL, subjects.journal(SHARD))) == 1

        await eventually(trimmed)
        assert "p7" in one.ledger.reaped
        await eventually(lambda: one.is_tidy(1), what="nothing is left to do")
        assert not one.is_tidy(2), "somebody has put in a marker"


async def test_whoever_asks_an_owner_that_has_ended_is_told_so(bus: Bus) -> None:
    """A cancelled wait would end whoever asked, unseen; one without an end would hang him."""
    one = owner(bus, SHARD, "old")
    async with owning(one) as running:
        waiting = asyncio.create_task(one.submit([thought("a", 1)]))
        await waiting
        async with owning(owner(bus, SHARD, "new")):
            late = [asyncio.create_task(one.submit([thought("a", 2)])), asyncio.create_task(one.halt(5))]
            for task in late:
                with pytest.raises(Fenced):
                    await asyncio.wait_for(task, 30)
            await eventually(running.done)
            with pytest.raises(Fenced):
                await one.submit([thought("a", 2)])
            with pytest.raises(Fenced):
                await one.halt(5)
