"""Work over which thinkers have ended: taken apart, thought alone, given up in the end [3.11]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.concurrency.tasks import Background
from libs.contracts import streams, subjects
from libs.contracts.limits import ACK_WAIT_S, MAX_DELIVER, TOGETHER
from libs.contracts.thoughts import Source, ThoughtEvent
from libs.contracts.work import Chunk, DeadLetter, GivenUp
from services.scheduler.dispatches import PREVIOUS_OWNER, Dispatch
from services.scheduler.lost_work import Exhausted, LostWork
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from tests.bus.support import held
from tests.services.support import Heard, owner, shard_records
from tests.services.test_shard_owners import owning
from tests.support.eventually import eventually
from tests.unit.make import chunk, entry

pytestmark = pytest.mark.usefixtures("patient")

SHARD = 0
NAMES = ["a", "b", "c"]
LONG_S = 10 * MAX_DELIVER * ACK_WAIT_S


Publish = Callable[[ShardOwner, Dispatch], Awaitable[None]]


@asynccontextmanager
async def lost_work(
    bus: Bus, one: ShardOwner, publish: Publish | None = None, heard: Heard | None = None
) -> AsyncIterator[LostWork]:
    async def publishes(_: ShardOwner, dispatch: Dispatch) -> None:
        dispatch.sequence = await bus.publish(subjects.think(SHARD), msgspec.json.encode(dispatch.chunk))

    metrics = SchedulerMetrics(CollectorRegistry())
    async with Background() as tasks:
        yield LostWork(bus, {SHARD: one}, publish or publishes, metrics, tasks, heard or Heard())


async def dispatched(bus: Bus, one: ShardOwner, attempts: int, *names: str) -> Dispatch:
    work = chunk("whole", *names)
    sequence = await bus.publish(subjects.think(SHARD), msgspec.json.encode(work))
    dispatch = one.dispatches.begin(*entry(work), asyncio.get_running_loop().time(), sequence)
    dispatch.attempts = attempts
    return dispatch


async def queued(bus: Bus) -> list[Chunk]:
    return [msgspec.json.decode(stored.data, type=Chunk) for stored in await held(bus, streams.THINK)]


@pytest.mark.fact("3.11")
async def test_a_suspect_chunk_is_taken_apart_and_its_thoughts_go_alone(bus: Bus) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one), lost_work(bus, one) as lost:
        whole = await dispatched(bus, one, TOGETHER, *NAMES)
        await lost.suspected(one, whole)
        alone = await queued(bus)
        assert [[item.persona_id for item in each.items] for each in alone] == [["a"], ["b"], ["c"]]
        assert all(each.alone for each in alone)
        assert {d.attempts for d in one.dispatches.all()} == {TOGETHER}
        assert all(one.dispatches.in_flight(name) for name in NAMES)
        assert await held(bus, streams.DEAD_LETTERS) == []


@pytest.mark.fact("3.11")
async def test_what_four_thinkers_ended_over_becomes_a_dead_letter_and_the_fallback_once(bus: Bus) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one), lost_work(bus, one) as lost:
        dispatch = await dispatched(bus, one, MAX_DELIVER, "a")
        await asyncio.gather(*[lost.suspected(one, dispatch) for _ in range(3)])
        assert await queued(bus) == []
        assert len(one.dispatches) == 0
        (letter,) = await held(bus, streams.DEAD_LETTERS)
        kept = msgspec.json.decode(letter.data, type=DeadLetter)
        assert (kept.subject, kept.deliveries) == (subjects.think(SHARD), MAX_DELIVER)
        given_up = msgspec.json.decode(kept.body, type=GivenUp)
        assert (given_up.shard, given_up.run) == (SHARD, dispatch.chunk.run)
        assert [(item.persona_id, item.charter) for item in given_up.items] == [("a", "Watch.")]
        (stored,) = [entry for record in await shard_records(bus, SHARD) for entry in record.thoughts]
        payload = msgspec.json.decode(stored.events[0][1], type=ThoughtEvent).payload
        assert payload["source"] == Source.FALLBACK
        assert f"given up after {MAX_DELIVER} deliveries" in payload["error"]


@pytest.mark.fact("3.11")
async def test_work_whose_thinkers_end_before_they_ask_for_it_ends_too(bus: Bus) -> None:
    """Its deliveries are used up, again and again: each time counts as one thinker."""
    one = owner(bus, SHARD, "boot")
    async with owning(one), lost_work(bus, one) as lost:
        await dispatched(bus, one, 0, "a")
        rounds = 0
        while left := one.dispatches.all():
            (dispatch,) = left
            assert dispatch.sequence is not None
            await lost.exhausted(Exhausted(dispatch.sequence, MAX_DELIVER), request())
            rounds += 1
        assert rounds == MAX_DELIVER
        assert len(await held(bus, streams.DEAD_LETTERS)) == 1


@pytest.mark.fact("3.11")
@pytest.mark.parametrize("speaks", [False, True])
async def test_work_whose_deliveries_are_over_while_nobody_can_be_heard_is_judged_once_its_thinker_can(
    bus: Bus, speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says so once: for instance as soon as it goes on that was stopped."""
    monkeypatch.setattr("services.scheduler.lost_work._JUDGE_S", 0.05)
    clock = asyncio.get_running_loop().time
    one, heard = owner(bus, SHARD, "boot"), Heard()
    async with owning(one), lost_work(bus, one, heard=heard) as lost:
        dispatch = await dispatched(bus, one, TOGETHER - 1, *NAMES)
        dispatch.granted_to, dispatch.touched = "t1", clock() - LONG_S
        assert dispatch.sequence is not None
        heard.from_when = inf
        await lost.exhausted(Exhausted(dispatch.sequence, MAX_DELIVER), request())
        await asyncio.sleep(0.5)
        assert one.dispatches.all() == [dispatch], "nobody could be heard yet"
        if speaks:
            one.dispatches.heard(dispatch.chunk.id, "t1", clock())
        heard.from_when = -inf
        if speaks:
            await asyncio.sleep(0.5)
            assert (one.dispatches.all(), dispatch.attempts) == ([dispatch], TOGETHER - 1)
        else:
            await eventually(lambda: len(one.dispatches.all()) == len(NAMES), what="each thought alone")
            assert {again.attempts for again in one.dispatches.all()} == {TOGETHER}


async def delivered(bus: Bus, count: int = 1) -> None:
    """Have a thinker take so many messages and say nothing more."""
    subscription = await bus.client.subscribe("taken")
    body = msgspec.json.encode({"batch": count})
    await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{streams.THINK}.{streams.THINKERS}", body, "taken")
    for _ in range(count):
        assert (await subscription.next_msg(30)).data
    await subscription.unsubscribe()


async def look(bus: Bus, one: ShardOwner, after: float = LONG_S) -> None:
    async with lost_work(bus, one, heard=Heard(after)) as lost:
        await lost.look()


@pytest.mark.fact("3.11")
@pytest.mark.parametrize("granted_to", [None, PREVIOUS_OWNER])
async def test_work_that_was_never_delivered_waits_for_its_thinker_however_long(
    bus: Bus, granted_to: str | None
) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        dispatch = await dispatched(bus, one, 0, *NAMES)
        dispatch.granted_to = granted_to
        before = await held(bus, streams.THINK)
        await look(bus, one)
        assert await held(bus, streams.THINK) == before
        assert one.dispatches.all() == [dispatch]
        assert await held(bus, streams.DEAD_LETTERS) == []


@pytest.mark.fact("3.11")
@pytest.mark.parametrize("granted_to", [None, "t1", PREVIOUS_OWNER])
@pytest.mark.parametrize("attempts", [1, MAX_DELIVER])
async def test_delivered_work_of_which_nobody_is_heard_is_dispatched_anew_and_never_given_up_by_age(
    bus: Bus, granted_to: str | None, attempts: int
) -> None:
    """Its thinker is gone and no other came, or its deliveries are used up and the advisory was lost."""
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        dispatch = await dispatched(bus, one, attempts, *NAMES)
        dispatch.granted_to = granted_to
        one.dispatches.forget(["b"])
        await delivered(bus)
        await look(bus, one, after=2 * ACK_WAIT_S)
        assert one.dispatches.all() == [dispatch], "not before every delivery is over"
        for _ in range(3):
            await look(bus, one)
        (chunk_again,) = await queued(bus)
        (again,) = one.dispatches.all()
        assert again.chunk == chunk_again and again.chunk.id != dispatch.chunk.id
        assert [item.persona_id for item in chunk_again.items] == ["a", "c"]
        assert (again.attempts, again.granted_to) == (attempts, None)
        assert await held(bus, streams.DEAD_LETTERS) == []
        assert all(not record.thoughts for record in await shard_records(bus, SHARD))


@pytest.mark.fact("3.2")
async def test_while_a_chunk_is_taken_apart_every_thought_of_it_stays_under_way(bus: Bus) -> None:
    """A tick in between would dispatch them once more, beside others."""
    one = owner(bus, SHARD, "boot")
    under_way: list[list[bool]] = []

    async def publish(_: ShardOwner, dispatch: Dispatch) -> None:
        under_way.append([one.dispatches.in_flight(name) for name in NAMES])
        assert {d.attempts for d in one.dispatches.all()} == {TOGETHER}
        dispatch.sequence = await bus.publish(subjects.think(SHARD), msgspec.json.encode(dispatch.chunk))

    async with owning(one), lost_work(bus, one, publish) as lost:
        whole = await dispatched(bus, one, TOGETHER, *NAMES)
        await lost.suspected(one, whole)
        assert under_way == [[True] * 3] * 3


async def test_a_chunk_of_which_nothing_is_left_goes(bus: Bus) -> None:
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        await dispatched(bus, one, 0, *NAMES)
        copy = chunk("copy", *NAMES)
        sequence = await bus.publish(subjects.think(SHARD), msgspec.json.encode(copy))
        one.dispatches.begin(*entry(copy), 0.0, sequence)
        await look(bus, one)
        assert [each.id for each in await queued(bus)] == ["whole"]
        assert [each.chunk.id for each in one.dispatches.all()] == ["whole"]


def request() -> Request:
    return Request(subjects.WORK_EXHAUSTED, b"", None)
