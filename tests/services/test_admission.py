"""Admission over a real journal: what plain fallbacks give back, pauses, clocks that jump [A16]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.cognition.answer import Answer
from libs.cognition.compose import compose
from libs.contracts.accounts import AccountAsk, AccountsRequest, Credits
from libs.contracts.journal import ThoughtEntry
from libs.contracts.personas import PolicyRequest
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of
from services.scheduler.admission import Admitting
from services.scheduler.bank import Bank
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.owner import ShardOwner
from services.scheduler.treasury import Treasury
from tests.services.support import owner, shard_records
from tests.services.test_credits import ROOT, Clock
from tests.services.test_shard_owners import owning
from tests.unit.make import NOW, Tree, item

pytestmark = pytest.mark.usefixtures("patient")

LIMITS = PolicyRequest(token_credits_per_minute=20_000, cpu_credits_per_minute=10_000)


def alone(policy: PolicyRequest = LIMITS) -> Roster:
    tree = Tree()
    tree.create(ROOT, policy=policy)
    return tree.roster


def fallback(number: int) -> ThoughtEntry:
    """The root's n-th thought where there is no model at all."""
    return compose(item(ROOT, number), 1, Answer(), NOW)


async def said(bus: Bus) -> list[str]:
    """Return the types of the events in the root's shard, but for those of thoughts."""
    return [event.event_type for one in await shard_records(bus, shard_of(ROOT)) for event in one.events]


class Place:
    """Admission to the thoughts of a shard's owner."""

    def __init__(self, bus: Bus, one: ShardOwner, roster: Roster, clock: Clock) -> None:
        self.owner = one
        self.clock = clock
        banks = {one.shard: Bank(one, roster, clock)}
        self.bank = banks[one.shard]
        treasury, metrics = Treasury(bus, roster, banks), SchedulerMetrics(CollectorRegistry())
        self.admitting = Admitting(treasury, roster, {one.shard: one}, banks, 100, metrics, clock)

    async def may_think(self) -> bool:
        admitted = await self.admitting.admit({ROOT: self.owner.ledger.persona(ROOT)})
        return admitted == [ROOT]

    async def spend(self, cpu_ms: int) -> None:
        """Have a child of the root's reserve so much."""
        await self.bank.answer(AccountsRequest(asks=[AccountAsk(ROOT, "child", 1, Credits(0, cpu_ms))]))

    @property
    def committed(self) -> Credits:
        return self.owner.ledger.accounts.committed(ROOT, window_of(self.clock()))


@asynccontextmanager
async def place(bus: Bus, boot: str, roster: Roster, clock: Clock) -> AsyncIterator[Place]:
    one = owner(bus, shard_of(ROOT), boot)
    async with owning(one):
        yield Place(bus, one, roster, clock)


@pytest.mark.fact("A16")
@pytest.mark.fact("A6")
async def test_plain_fallbacks_spend_nothing_however_many_a_minute_has(bus: Bus) -> None:
    """A thought nothing is known of is expected to cost a second: ten of them are the minute's credits."""
    async with place(bus, "boot", alone(), Clock()) as here:
        for number in range(1, 31):
            assert await here.may_think(), f"thought {number}"
            assert here.committed != NOTHING
            await here.owner.submit([fallback(number)])
            await here.admitting.settle(fallback(number))
            assert here.committed == NOTHING
        assert here.owner.ledger.persona(ROOT).life is None, "there is nothing to remember of it"


@pytest.mark.fact("A16")
async def test_a_fallback_after_thoughts_by_a_model_gives_its_reservation_back_too(bus: Bus) -> None:
    async with place(bus, "boot", alone(), Clock()) as here:
        assert await here.may_think()
        by_model = compose(item(ROOT, 1), 1, Answer(text="So be it.", model="m", latency_ms=400), NOW)
        await here.owner.submit([by_model])
        await here.admitting.settle(by_model)
        assert here.committed.cpu_ms == 400
        assert await here.may_think()
        await here.owner.submit([fallback(2)])
        await here.admitting.settle(fallback(2))
        assert here.committed.cpu_ms == 400


@pytest.mark.fact("A16")
async def test_a_fallback_that_nobody_settled_is_settled_with_the_next_one(
    bus: Bus,
) -> None:
    roster, clock = alone(), Clock()
    async with place(bus, "first", roster, clock) as here:
        assert await here.may_think()
        await here.owner.submit([fallback(1)])
        expected = here.committed
        assert expected != NOTHING
    async with place(bus, "second", roster, clock) as here:
        assert here.committed == expected
        assert await here.may_think()
        assert here.committed == expected, "of the next thought alone"
        await here.admitting.settle(fallback(1))
        assert here.committed == expected, "told again it changes nothing"
        clock.minute += 1
        await here.admitting.settle(fallback(1))
        assert here.committed == NOTHING


@pytest.mark.fact("A16")
@pytest.mark.parametrize(("jump", "minutes"), [(-600, 1), (-2, 1), (-1, 2), (0, 1), (1, 0), (600, 0)])
async def test_a_pause_lasts_for_a_minute_or_two_wherever_the_clock_jumps(
    bus: Bus, jump: int, minutes: int
) -> None:
    """An urgent message waits as long: nothing but the pause's end lets its persona think."""
    clock = Clock()
    async with place(bus, "boot", alone(), clock) as here:
        await here.spend(9500)
        assert not await here.may_think()
        entry = here.owner.ledger.persona(ROOT)
        clock.minute += jump
        for _ in range(minutes):
            until = here.admitting.pause_of(ROOT, entry)
            assert until is None or clock() < until <= (clock.minute + 1) * 60
            assert not await here.may_think(), "the spent minute goes on"
            clock.minute += 1
        assert here.admitting.pause_of(ROOT, entry) is None
        assert await here.may_think()
        await here.owner.note(Note())  # stored after what was said before it
    assert await said(bus) == ["budget_paused", "budget_resumed"]
