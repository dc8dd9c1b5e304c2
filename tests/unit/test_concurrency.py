"""Tasks with an owner, waits with an end, and the publisher's position."""

from __future__ import annotations

import asyncio

import pytest

from libs.concurrency.tasks import (
    Background,
    TaskFailed,
    Tasks,
    beside,
    ended,
    leaves,
    tell_failure,
    told_of,
    watch_tasks,
)
from libs.concurrency.waiting import set_within
from libs.journal.position import PublicPosition
from tests.support.eventually import eventually


async def forever(seen: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        seen.append(name)


async def test_what_still_runs_ends_with_its_owner() -> None:
    seen: list[str] = []
    async with Background() as tasks:
        for name in "ab":
            tasks.create_task(forever(seen, name))
        await asyncio.sleep(0)
    assert sorted(seen) == ["a", "b"]


async def test_a_task_that_fails_ends_its_owner_and_its_siblings() -> None:
    seen: list[str] = []

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(ExceptionGroup) as raised:
        async with Background() as tasks:
            tasks.create_task(forever(seen, "sibling"))
            tasks.create_task(fail())
            await forever(seen, "body")
    assert [type(error) for error in leaves(raised.value)] == [KeyError]
    assert sorted(seen) == ["body", "sibling"]


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    async with Background() as tasks:
        tasks.create_task(stubborn())
        await asyncio.sleep(0)
    assert cancelled == 2


async def test_a_task_that_fails_as_its_owner_ends_is_not_lost_in_cancellations() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("at the end")

    async def owner() -> None:
        async with Background() as tasks:
            tasks.create_task(fail_when_cancelled())
            tasks.create_task(forever([], "sibling"))
            await asyncio.sleep(0)

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(owner())
    assert [str(error) for error in leaves(raised.value)] == ["'at the end'"]


async def fail(text: str = "x") -> None:
    raise KeyError(text)


@pytest.mark.fact("H7")
@pytest.mark.parametrize("group", [Background, Tasks])
async def test_who_watches_is_told_of_a_crash_once_by_the_innermost_task(group: type[Tasks]) -> None:
    told: list[TaskFailed] = []
    watch_tasks(told.append)

    async def outer() -> None:
        async with group() as tasks:
            tasks.create_task(fail(), name="inner-3")

    with pytest.raises(ExceptionGroup):
        async with group() as tasks:
            tasks.create_task(outer(), name="outer")
    assert [(failed.name, type(failed.error)) for failed in told] == [("inner-3", KeyError)]
    assert told_of(told[0].error) == "inner-3"
    tell_failure("again", BaseExceptionGroup("twice", [told[0].error]))
    assert len(told) == 1


@pytest.mark.fact("H7")
async def test_a_cancelled_task_is_no_crash() -> None:
    told: list[TaskFailed] = []
    watch_tasks(told.append)
    async with Background() as tasks:
        tasks.create_task(forever([], "a"), name="a")
    assert told == []


@pytest.mark.fact("H7")
async def test_what_runs_beside_is_cancelled_and_awaited() -> None:
    seen: list[str] = []
    with pytest.raises(ValueError, match="of the body"):
        async with beside(forever(seen, "a"), "a"), beside(fail(), "b") as failing:
            await asyncio.wait([failing])
            raise ValueError("of the body")
    assert seen == ["a"]


@pytest.mark.fact("H7")
async def test_ending_waits_for_who_swallows_a_cancellation() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await ended(task)
    assert (swallowed, task.done()) == (3, True)


async def test_a_wait_ends_when_the_event_is_set_or_the_time_is_over() -> None:
    event = asyncio.Event()
    assert not await set_within(event, 0.01)
    asyncio.get_running_loop().call_soon(event.set)
    assert await set_within(event, 5)
    assert await set_within(event, None)


async def test_a_cancelled_wait_is_cancelled_even_as_the_event_is_set() -> None:
    """`asyncio.wait_for` of Python 3.11 would lose the cancellation."""
    event = asyncio.Event()
    waiting = asyncio.create_task(set_within(event, 5))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_position_never_goes_back() -> None:
    position = PublicPosition()
    for sequence in (3, 1, 3, 2):
        position.advance(sequence)
    assert position.sequence == 3


async def test_whoever_waits_for_a_position_waits_until_it_is_reached() -> None:
    position = PublicPosition()
    waits = {at: asyncio.create_task(position.reached(at)) for at in (0, 5, 7)}
    await asyncio.sleep(0)
    position.advance(5)
    await eventually(lambda: waits[0].done() and waits[5].done())
    assert not waits[7].done()
    position.advance(9)
    await waits[7]
