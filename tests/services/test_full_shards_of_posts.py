"""A shard whose journal has no room holds up no post of the same scheduler's other shards [A5]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.bus.connection import Bus
from libs.concurrency.tasks import Background
from services.scheduler import offers
from services.scheduler.owner import ShardOwner
from tests.services.test_posts import POST, others, people, scheduling, seated, send, stored, wanted
from tests.support.eventually import eventually
from tests.unit.make import thought


@asynccontextmanager
async def full(one: ShardOwner) -> AsyncIterator[None]:
    """Leave a shard's journal no room, and a thought waiting for some."""
    async with Background() as tasks:
        count = 1
        while one._tail.has_room:
            await one.submit([thought("filler", count)])
            count += 1
        storing = tasks.create_task(one.submit([thought("filler", count)]))
        await eventually(lambda: not one._waiting, what="it is being stored")
        yield
        assert not storing.done()


@pytest.mark.fact("A5")
async def test_a_place_that_cannot_be_given_back_yet_holds_up_no_other(bus: Bus) -> None:
    """Its persona is reaped, and its shard has no room to say what was under way."""
    roster = people()
    async with scheduling(bus, roster) as one:
        await send(bus)
        first, second = await seated(bus, one)
        stuck = one.of(first)
        async with full(stuck):
            one.reap(roster, first)
            await one.decline(second)
            (third,) = await eventually(lambda: beside(bus, first, second), what="another has it") or []
            for _ in range(3):
                await one.offers._look(POST)
            assert [note.stored is not None for note in stuck._notes].count(True) == 1, "none a look"
            assert set((await stored(bus)).granted) == {first, third}
            assert one.offers._storing[POST].keys() == {first}
        stuck._position.advance(2**60)
        assert await eventually(lambda: others(bus, first), what="there is room, and it is given back")
        await eventually(lambda: not one.offers._storing)


async def beside(bus: Bus, first: str, second: str) -> list[str]:
    """Who has a place beside the first, instead of the second."""
    granted = set((await stored(bus)).granted)
    return sorted(granted - {first}) if second not in granted else []


@pytest.mark.fact("A5")
async def test_an_unused_place_of_a_full_shard_goes_to_who_wants_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the shard is still ours is read, and takes no room."""
    monkeypatch.setattr(offers, "ANSWERED_WITHIN_S", 30.0)
    monkeypatch.setattr(offers, "UNUSED_S", 60.0)
    async with scheduling(bus, people("ann", "bob"), "ann", "bob") as one:
        await send(bus, "ann", "bob", most=1)
        (first,) = await seated(bus, one, most=1)
        await eventually(lambda: wanted(bus))
        async with full(one.of(first)):
            one.offers._desks[POST].copies[first].unused_since = float("-inf")
            one.offers._look_at(POST)
            assert await eventually(lambda: others(bus, first), what="the other one has it")
            (second,) = await seated(bus, one, most=1)
            await one.answer(second)
            await eventually(lambda: answers(bus, second))


async def answers(bus: Bus, name: str) -> bool:
    return [answer.persona_id for answer in (await stored(bus)).answers] == [name]


@pytest.mark.fact("A5")
async def test_a_shard_that_does_not_answer_keeps_its_place_and_holds_up_no_other(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner is stuck in something else than its journal."""
    async with scheduling(bus, people()) as one:
        await send(bus)
        first, second = await seated(bus, one)
        await eventually(lambda: wanted(bus))
        silent: list[asyncio.Future[None]] = []

        def unanswered() -> asyncio.Future[None]:
            silent.append(asyncio.get_running_loop().create_future())
            return silent[-1]

        monkeypatch.setattr(one.of(first), "confirm", unanswered)
        monkeypatch.setattr(offers, "UNUSED_S", 0.0)
        await one.offers._look(POST)
        monkeypatch.setattr(offers, "UNUSED_S", 60.0)
        assert silent and not silent[0].done()
        granted = (await stored(bus)).granted
        assert first in granted and second not in granted
