"""Who waits for credits is told so once, and once that it goes on, however long storing it takes [A16]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.contracts.accounts import AccountAsk, AccountsRequest, Credits
from libs.contracts.tokens import shard_of
from services.scheduler.admission import Admitting
from services.scheduler.bank import Bank
from services.scheduler.ledger import PersonaLedger
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.treasury import Treasury
from tests.services.support import owner, shard_records
from tests.services.test_credits import NAMES, ROOT, Clock, family
from tests.services.test_shard_owners import owning
from tests.support.broker import Broker
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("patient")

SHARD = shard_of(ROOT)


class Poor:
    """A root without credits, and whoever asks for them."""

    def __init__(self, bus: Bus, one: ShardOwner) -> None:
        self.clock, roster = Clock(), family()
        self.owner, self.bank = one, Bank(one, roster, self.clock)
        banks = {SHARD: self.bank}
        metrics = SchedulerMetrics(CollectorRegistry())
        treasury = Treasury(bus, roster, banks)
        self.admitting = Admitting(treasury, roster, {SHARD: one}, banks, 100, metrics, self.clock)

    @property
    def entry(self) -> PersonaLedger:
        return self.owner.ledger.persona(ROOT)

    async def ask(self) -> bool:
        """Whether the root may think."""
        admitted = await self.admitting.admit({ROOT: self.entry})
        return admitted == [ROOT]

    def paused(self) -> bool:
        """Whether the journal says that it waits."""
        return self.entry.life is not None and self.entry.life.pause is not None


@asynccontextmanager
async def poor(bus: Bus) -> AsyncIterator[Poor]:
    one = owner(bus, SHARD, "boot")
    async with owning(one):
        made = Poor(bus, one)
        await made.bank.answer(AccountsRequest(asks=[AccountAsk(ROOT, NAMES[0], 1, Credits(2000, 10))]))
        yield made


async def said(bus: Bus) -> list[str]:
    return [event.event_type for record in await shard_records(bus, SHARD) for event in record.events]


@pytest.mark.fact("A16")
async def test_who_asks_again_before_its_pause_is_stored_is_not_paused_again(
    bus: Bus, broker: Broker
) -> None:
    """As while the broker does not answer: it asks every second, and nothing is stored."""
    async with poor(bus) as root:
        broker.pause()
        assert [await root.ask() for _ in range(3)] == [False] * 3
        assert not root.paused(), "nothing is stored yet"
        assert root.admitting.pause_of(ROOT, root.entry) == (root.clock.minute + 1) * 60
        broker.resume()
        await eventually(root.paused)
        assert not await root.ask()
        assert await said(bus) == ["budget_paused"]


@pytest.mark.fact("A16")
async def test_who_goes_on_is_told_so_once_and_waits_by_the_journal_until_it_says_so(
    bus: Bus, broker: Broker
) -> None:
    """Of a checkpoint between the two without its pause nothing would ever say that it is over."""
    async with poor(bus) as root:
        assert not await root.ask()
        await eventually(root.paused)
        root.clock.minute += 1
        await root.bank.answer(AccountsRequest(asks=[AccountAsk(ROOT, ROOT, 1, Credits(1, 1))]))
        broker.pause()
        assert [await root.ask() for _ in range(3)] == [True] * 3
        assert root.paused()
        assert root.admitting.pause_of(ROOT, root.entry) is None
        broker.resume()
        await eventually(lambda: not root.paused())
        assert await said(bus) == ["budget_paused", "budget_resumed"]


@pytest.mark.fact("A16")
async def test_what_the_shard_was_given_up_before_is_said_by_the_next_owner(bus: Bus) -> None:
    async with poor(bus) as root:
        root.owner.close()
        assert not await root.ask()
        assert root.admitting.pause_of(ROOT, root.entry) is not None
        await eventually(lambda: root.admitting.pause_of(ROOT, root.entry) is None)
    assert await said(bus) == []
