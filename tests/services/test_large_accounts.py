"""Accounts that are too large for a checkpoint's head stand in parts: none are lost or mixed [A16, 3.3]."""

from __future__ import annotations

import asyncio
from time import time
from typing import cast

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.contracts.accounts import AccountsCheckpoint, Credits
from libs.contracts.limits import PAYLOAD_BYTES, RECORD_BYTES
from services.scheduler.accounts import window_of
from services.scheduler.checkpoint import _ATTEMPTS, CheckpointFenced, Checkpoints, CheckpointUnreadable
from services.scheduler.ledger import Ledger
from tests.services.test_checkpoints import SHARD, Dying, head
from tests.services.test_unknown_checkpoints import Deaf

COST = Credits(1200, 2500)
PLENTY = Credits(2**50, 2**50)


def spent_by(*names: str, thoughts: int = 1) -> Ledger:
    """A shard with the root of these personas: each has thought, and is about to."""
    ledger, window = Ledger(SHARD), window_of(time())
    for name in names:
        for number in range(1, thoughts + 1):
            ledger.accounts.settle("root", name, number, window, COST)
        ledger.accounts.reserve("root", PLENTY, name, thoughts + 1, window, COST)
    ledger.accounts.take_changes()
    return ledger


def crowd(count: int, letter: str = "x") -> list[str]:
    return [f"{number:06d}{letter * 122}" for number in range(count)]


SOME = 3000
"""So many weigh more than a part with ids of 128 characters, and less than two."""


def dumped(ledger: Ledger) -> AccountsCheckpoint:
    return ledger.accounts.dump(window_of(time()))


async def loaded(bus: Bus) -> AccountsCheckpoint:
    ledger = Ledger(SHARD)
    await Checkpoints(bus, SHARD).load(ledger)
    return dumped(ledger)


@pytest.mark.fact("A16")
@pytest.mark.fact("3.3")
async def test_accounts_larger_than_any_message_are_stored_and_come_back(bus: Bus) -> None:
    """As of a root of a hundred thousand who think; and the checkpoint after them is small again."""
    whole = spent_by(*crowd(35_000))
    size = len(msgspec.json.encode(dumped(whole)))
    assert size > PAYLOAD_BYTES
    stored = Checkpoints(bus, SHARD)
    await stored.load(Ledger(SHARD))
    await stored.store(whole, 1)
    first = await head(bus)
    assert (first.accounts, first.accounts_parts) == (None, -(-size // RECORD_BYTES))
    assert await loaded(bus) == dumped(whole)
    await stored.store(few := spent_by("p"), 2)
    assert (await head(bus)).accounts == dumped(few) == await loaded(bus)
    await stored.store(whole, 3)
    assert await loaded(bus) == dumped(whole)


@pytest.mark.fact("3.3")
async def test_an_owner_that_dies_at_any_write_leaves_the_accounts_of_the_stored_head(bus: Bus) -> None:
    before = spent_by(*crowd(SOME))
    first = Checkpoints(bus, SHARD)
    await first.load(Ledger(SHARD))
    await first.store(before, 1)
    after = spent_by(*crowd(SOME, "y"))
    died = 0
    for writes in range(10):
        dying = Checkpoints(cast("Bus", Dying(bus, writes)), SHARD)
        await dying.load(Ledger(SHARD))
        try:
            await dying.store(after, 2)
        except asyncio.CancelledError:
            died += 1
            assert await loaded(bus) == dumped(before)
        else:
            break
    assert died == 3, "two parts and the head"
    assert await loaded(bus) == dumped(after)


@pytest.mark.fact("3.3")
async def test_parts_of_a_head_that_may_be_stored_are_left_alone(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored, its owner hears nothing of it, and dies at the first part of the next one."""
    monkeypatch.setattr("services.scheduler.checkpoint._RETRY_S", 0.01)
    one = Checkpoints(bus, SHARD)
    await one.load(Ledger(SHARD))
    await one.store(spent_by(*crowd(SOME)), 1)
    deaf = Deaf(bus, subjects.checkpoint_head(SHARD), tries=_ATTEMPTS)
    one._bus = cast("Bus", deaf)
    unheard = spent_by(*crowd(SOME, "y"))
    with pytest.raises(Exception, match="its ack was lost"):
        await one.store(unheard, 2)
    one._bus = cast("Bus", Dying(bus, 2))
    with pytest.raises(asyncio.CancelledError):
        await one.store(spent_by(*crowd(SOME, "z")), 3)
    assert await loaded(bus) == dumped(unheard)


@pytest.mark.fact("3.3")
async def test_a_late_owner_overwrites_no_part_of_its_successor_s(bus: Bus) -> None:
    old, new = Checkpoints(bus, SHARD), Checkpoints(bus, SHARD)
    await old.load(Ledger(SHARD))
    await new.load(Ledger(SHARD))
    await new.store(theirs := spent_by(*crowd(SOME)), 2)
    with pytest.raises(CheckpointFenced):
        await old.store(spent_by(*crowd(SOME, "y")), 1)
    assert await loaded(bus) == dumped(theirs)


@pytest.mark.fact("3.3")
async def test_parts_that_are_missing_are_not_read_as_fewer_accounts(bus: Bus) -> None:
    stored = Checkpoints(bus, SHARD)
    await stored.load(Ledger(SHARD))
    await stored.store(spent_by(*crowd(SOME)), 1)
    said = await head(bus)
    last = subjects.checkpoint_accounts(SHARD, said.accounts_side, said.accounts_parts - 1)
    await bus.api("STREAM.PURGE.KV_checkpoints", {"filter": last})
    with pytest.raises(CheckpointUnreadable, match="accounts"):
        await loaded(bus)
