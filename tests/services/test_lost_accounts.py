"""Accounts whose shard is lost are asked elsewhere [A16]."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.telemetry import NoTelemetry
from libs.contracts.accounts import AccountAsk, AccountsRequest
from libs.contracts.tokens import shard_of
from services.scheduler.bank import Bank
from services.scheduler.mailbox import Mailbox
from services.scheduler.owner import Fenced
from services.scheduler.service import Scheduler
from tests.services.crashing import Running
from tests.services.support import owner, registry
from tests.services.test_credits import COST, NAMES, ROOT, Clock, family, scheduler, want
from tests.services.test_shard_owners import owning
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import create, thought

pytestmark = pytest.mark.usefixtures("patient")

SHARD = shard_of(ROOT)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Scheduler]:
    """The schedulers of this process, in their order. A shard that one loses is not taken back."""
    monkeypatch.setattr("services.scheduler.shards._BACK_OFF_S", (600.0, 600.0))
    schedulers: list[Scheduler] = []
    begin = Scheduler.__init__

    def kept(self: Scheduler, *parts: Any) -> None:
        begin(self, *parts)
        schedulers.append(self)

    monkeypatch.setattr(Scheduler, "__init__", kept)
    return schedulers


@pytest.mark.fact("A16")
async def test_accounts_of_a_shard_that_is_lost_while_its_inboxes_are_read_are_asked_elsewhere(
    bus: Bus, broker: Broker, made: list[Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading: its first owner went on asking itself, and whoever is below the root stood still."""
    load, reading = Mailbox.load, asyncio.Event()

    async def held_up(self: Mailbox) -> None:
        if self._owner.shard == SHARD:
            reading.set()
            await asyncio.Event().wait()
        await load(self)

    monkeypatch.setattr(Mailbox, "load", held_up)
    async with registry(bus) as people:
        await people.create(create(ROOT))
        await people.create(create(NAMES[0], ROOT))
    run = Running("scheduler", broker.url)
    try:
        await run.until_ready()
        await asyncio.wait_for(reading.wait(), 30)
        (first,) = made
        lost = first.shards.live[SHARD]
        async with (
            connect(broker.url, "other", NoTelemetry()) as other,
            scheduler(other, "two", [ROOT], family(), Clock()),
        ):
            with pytest.raises(Fenced):
                await lost.submit([thought(ROOT, 1)])
            await eventually(lambda: SHARD not in first.shards.live, what="the shard is given up")
            assert SHARD not in first.banks
            (admission,) = await first.treasury.admit([want(NAMES[0])])
            assert admission.granted
    finally:
        await run.close()


@pytest.mark.fact("A16")
async def test_an_account_whose_owner_has_just_learnt_that_it_was_overtaken_is_asked_elsewhere(
    bus: Bus, broker: Broker
) -> None:
    """What the old owner has granted and could not store it grants to nobody who asks again."""
    roster, clock = family(), Clock()
    old = owner(bus, SHARD, "old")
    banks = {SHARD: Bank(old, roster, clock)}
    ask = AccountsRequest(asks=[AccountAsk(ROOT, NAMES[0], 1, COST)])
    async with (
        connect(broker.url, "other", NoTelemetry()) as other,
        owning(old),
        scheduler(bus, "old", [NAMES[0]], roster, clock) as ours,
        scheduler(other, "new", [ROOT], roster, clock),
    ):
        for _ in range(2):
            with pytest.raises(Fenced):
                await banks[SHARD].answer(ask)
        ours._banks[SHARD] = banks[SHARD]  # type: ignore[index]
        (admission,) = await ours.admit([want(NAMES[0])])
        assert admission.granted
