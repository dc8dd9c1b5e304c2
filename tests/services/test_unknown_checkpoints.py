"""Checkpoints of which their owner hears nothing, and those that the broker does not take [3.3]."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown, WrongLastSequence
from libs.bus.read import last_of
from libs.contracts import streams, subjects
from libs.contracts.work import Settled
from services.scheduler.checkpoint import _ATTEMPTS
from tests.services.support import owner
from tests.services.test_checkpoints import SHARD, head, owning, page
from tests.support.eventually import eventually
from tests.unit.make import NOW, thought
from tests.unit.test_life import effort


class Deaf:
    """A bus that stores a message of a subject and hears nothing of it, nor of what it then tries in vain."""

    def __init__(self, bus: Bus, subject: str, tries: int, error: Exception | None = None) -> None:
        self._bus = bus
        self._subject = subject
        self._tries = tries
        self._stored = error is not None
        self._error = error or OutcomeUnknown(subject, "its ack was lost")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    @property
    def hears(self) -> bool:
        return not self._tries

    async def publish(self, subject: str, *arguments: Any) -> int:
        if subject != self._subject or self.hears:
            return await self._bus.publish(subject, *arguments)
        if not self._stored:
            await self._bus.publish(subject, *arguments)
            self._stored = True
        self._tries -= 1
        raise self._error


@pytest.mark.fact("3.3")
@pytest.mark.parametrize(
    "subject", [subjects.checkpoint_head(SHARD), subjects.checkpoint_page(SHARD, 0)], ids=["head", "page"]
)
async def test_an_owner_is_no_rival_of_its_own(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    """Found by reading: what it had stored, and heard nothing of, it took for the next owner's."""
    monkeypatch.setattr("services.scheduler.checkpoint._RETRY_S", 0.01)
    one = owner(bus, SHARD, "one")
    async with owning(one):
        deaf = Deaf(bus, subject, tries=_ATTEMPTS)
        one._checkpoints._bus = cast("Bus", deaf)
        await one.submit([thought("p", 1)])
        one.tidy(0)
        await eventually(lambda: deaf.hears, what="a checkpoint of unknown outcome")
        assert (await last_of(bus, streams.CHECKPOINTS, subject)) is not None
        await one.submit([thought("p", 2)])
        one.tidy(0)
        await eventually(lambda: one._checkpoints.sequence == one._tail.sequence, what="the next one")
    assert ((await head(bus)).sequence, (await page(bus)).counters["p"][0]) == (3, 2)


@pytest.mark.fact("3.3")
async def test_a_checkpoint_of_which_an_earlier_try_is_under_way_waits_for_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker refuses it as if another writer had been faster, and holds what it held."""
    monkeypatch.setattr("services.scheduler.checkpoint._RETRY_S", 0.01)
    subject = subjects.checkpoint_head(SHARD)
    one = owner(bus, SHARD, "one")
    async with owning(one):
        under_way = WrongLastSequence(subject, 10164, "wrong last sequence")
        one._checkpoints._bus = cast("Bus", Deaf(bus, subject, 2, under_way))
        await one.submit([thought("p", 1)])
        one.tidy(0)
        await eventually(lambda: one._checkpoints.sequence == one._tail.sequence, what="a checkpoint")


@pytest.mark.fact("3.3")
async def test_a_checkpoint_that_the_broker_does_not_take_ends_nobody(bus: Bus) -> None:
    """Found by reading: a scheduler ended by it, again and again; it says so, and thinks on."""
    one = owner(bus, SHARD, "one")
    async with owning(one):
        one.ledger.settled = set(range(2**60, 2**60 + 500_000))
        with capture_logs() as logs:
            await one.submit([thought("p", 1)])
            one.tidy(0)
            await eventually(lambda: logs, what="a warning")
        assert logs[0]["event"] == "checkpoint_not_stored" and "max_payload" in logs[0]["error"]
        assert await one.submit([thought("p", 2)]) == Settled(stored=1, stale=0)
        one.ledger.settled.clear()
    assert (await page(bus)).counters["p"][0] == 2
    assert (await head(bus)).sequence == one._tail.sequence, "what is smaller again is stored"


@pytest.mark.fact("3.3")
async def test_a_shard_with_more_swarms_and_roles_than_a_checkpoint_takes_stores_one(bus: Bus) -> None:
    one, spent = owner(bus, SHARD, "one"), 0
    async with owning(one):
        for number in range(48 * 500):
            text = effort(role=f"{number % 500:03d}" + "r" * 197)
            entry = structs.replace(thought("p", 1), effort=text, swarm_id=f"{number % 500:03d}" + "s" * 125)
            at = NOW + timedelta(hours=number // 500)
            one.ledger.spending.add(structs.replace(entry, tick_at=at))
            spent += text.tokens
        await one.submit([thought("p", 1)])
    assert sum(found.spent.tokens for found in (await head(bus)).hours) == spent
