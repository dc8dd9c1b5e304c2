"""Work over which thinkers have ended: taken apart, thought alone, given up in the end [3.11]."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.contracts import streams, subjects
from libs.contracts.limits import MAX_DELIVER, TOGETHER
from libs.contracts.thoughts import Source, ThoughtEvent
from libs.contracts.work import Chunk, DeadLetter
from services.scheduler.dispatches import Dispatch
from services.scheduler.lost_work import Exhausted, LostWork
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from tests.bus.support import held
from tests.services.support import owner, shard_records
from tests.services.test_shard_owners import owning
from tests.unit.make import chunk

SHARD = 0
NAMES = ["a", "b", "c"]


def lost_work(bus: Bus, one: ShardOwner) -> LostWork:
    async def publish(_: ShardOwner, dispatch: Dispatch, data: bytes) -> None:
        dispatch.sequence = await bus.publish(subjects.think(SHARD), data)

    return LostWork(bus, {SHARD: one}, publish, SchedulerMetrics(CollectorRegistry()))


async def dispatched(bus: Bus, one: ShardOwner, attempts: int, *names: str) -> Dispatch:
    work = chunk("whole", *names)
    sequence = await bus.publish(subjects.think(SHARD), msgspec.json.encode(work))
    dispatch = one.dispatches.begin(work, 0.0, sequence)
    dispatch.attempts = attempts
    return dispatch


async def queued(bus: Bus) -> list[Chunk]:
    return [msgspec.json.decode(stored.data, type=Chunk) for stored in await held(bus, streams.THINK)]


@pytest.mark.fact("3.11")
async def test_a_suspect_chunk_is_taken_apart_and_its_thoughts_go_alone(bus: Bus) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        whole = await dispatched(bus, one, TOGETHER, *NAMES)
        await lost_work(bus, one).suspected(one, whole)
        alone = await queued(bus)
        assert [[item.persona_id for item in each.items] for each in alone] == [["a"], ["b"], ["c"]]
        assert all(each.alone for each in alone)
        assert {d.attempts for d in one.dispatches.all()} == {TOGETHER}
        assert all(one.dispatches.in_flight(name) for name in NAMES)
        assert await held(bus, streams.DEAD_LETTERS) == []


@pytest.mark.fact("3.11")
async def test_what_four_thinkers_ended_over_becomes_a_dead_letter_and_the_fallback_once(bus: Bus) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        dispatch = await dispatched(bus, one, MAX_DELIVER, "a")
        lost = lost_work(bus, one)
        await asyncio.gather(*[lost.suspected(one, dispatch) for _ in range(3)])
        assert await queued(bus) == []
        assert len(one.dispatches) == 0
        (letter,) = await held(bus, streams.DEAD_LETTERS)
        kept = msgspec.json.decode(letter.data, type=DeadLetter)
        assert (kept.subject, kept.deliveries) == (subjects.think(SHARD), MAX_DELIVER)
        assert msgspec.json.decode(kept.body, type=Chunk) == dispatch.chunk
        (stored,) = [entry for record in await shard_records(bus, SHARD) for entry in record.thoughts]
        payload = msgspec.json.decode(stored.events[0][1], type=ThoughtEvent).payload
        assert payload["source"] == Source.FALLBACK
        assert f"given up after {MAX_DELIVER} deliveries" in payload["error"]


@pytest.mark.fact("3.11")
async def test_work_whose_thinkers_end_before_they_ask_for_it_ends_too(bus: Bus) -> None:
    """Its deliveries are used up, again and again: each time counts as one thinker."""
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        await dispatched(bus, one, 0, "a")
        lost = lost_work(bus, one)
        rounds = 0
        while left := one.dispatches.all():
            (dispatch,) = left
            assert dispatch.sequence is not None
            await lost.exhausted(Exhausted(dispatch.sequence, MAX_DELIVER), request())
            rounds += 1
        assert rounds == MAX_DELIVER
        assert len(await held(bus, streams.DEAD_LETTERS)) == 1


def request() -> Request:
    return Request(subjects.WORK_EXHAUSTED, b"", None)
