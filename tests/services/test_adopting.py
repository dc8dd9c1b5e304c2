"""What a new owner finds queued while the run it belongs to is being stopped [4.2]."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.read import Stored, next_of
from libs.contracts import streams, subjects
from libs.contracts.work import Ticket
from services.scheduler import adopting
from services.scheduler.adopting import adopt
from services.scheduler.due import Due
from services.scheduler.halting import halt_shard
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from tests.bus.support import held
from tests.services.support import owner
from tests.services.test_shard_owners import owning
from tests.unit.make import chunk, due

SHARD = 0


def queued(ticket: Ticket, _: ShardOwner, __: str | None) -> Due:
    return due(ticket.persona_id, ticket.thought_count)


@pytest.mark.fact("4.2")
async def test_what_is_found_after_its_run_was_halted_is_not_under_way(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading: until it was missed, its personas had no thought in the next run."""
    for name in ("a", "b"):
        await bus.publish(subjects.think(SHARD), msgspec.json.encode(chunk(name, name)))
    one, metrics = owner(bus, SHARD, "boot"), SchedulerMetrics(CollectorRegistry())

    async def stopped_meanwhile(bus: Bus, stream: str, subject: str, at: int) -> Stored | None:
        found = await next_of(bus, stream, subject, at)
        if found is not None and len(one.dispatches) == 1:
            await halt_shard(bus, one, 1, metrics)
        return found

    monkeypatch.setattr(adopting, "next_of", stopped_meanwhile)
    async with owning(one):
        assert await adopt(bus, one, 1, queued) == 0
    assert one.is_halted(1)
    assert await held(bus, streams.THINK) == []
