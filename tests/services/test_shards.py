"""Taking over the shards that fall to a scheduler, where one of them cannot be [3.3]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.presence import Peers
from libs.contracts import subjects
from libs.contracts.journal import CheckpointHead
from libs.contracts.limits import SHARDS
from services.scheduler import shards as shards_module
from services.scheduler.history import History
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.service import _summary
from services.scheduler.shards import Shards
from tests.bus.support import running
from tests.services.support import owner
from tests.support.eventually import eventually

TORN = 5


class Counted:
    """The shards of a lone scheduler, with how often the history was read for them."""

    def __init__(self, bus: Bus) -> None:
        self.histories = 0
        self.shards = Shards(
            bus,
            Peers(bus, "scheduler", subjects.presence_key("scheduler", "scheduler-1")),
            "scheduler-1",
            lambda shard: owner(bus, shard, "boot"),
            self._history,
            self._serve,
            SchedulerMetrics(CollectorRegistry()),
        )

    @asynccontextmanager
    async def _history(self) -> AsyncIterator[History]:
        self.histories += 1
        yield History()

    @asynccontextmanager
    async def _serve(self, _: ShardOwner) -> AsyncIterator[None]:
        yield


@pytest.mark.fact("H3")
@pytest.mark.fact("3.3")
async def test_a_shard_that_nobody_can_read_is_named_and_keeps_no_other_from_work(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "_UNREADABLE_S", 0.5)
    head = subjects.checkpoint_head(TORN)
    await bus.publish(head, b"torn")
    counted = Counted(bus)
    shards = counted.shards
    async with running(shards.run()):
        await eventually(shards.complete.is_set, within=60)
        assert sorted({*range(SHARDS)} - shards.live.keys()) == [TORN] == list(shards.unreadable)
        summary = _summary(shards)
        (failure,) = summary.failures
        assert (failure.role, failure.slot_index, failure.persona_id) == ("shard", TORN, None)
        assert failure.reason.startswith(f"{head} holds no checkpoint")
        assert "restore it from a backup" in failure.reason
        assert (summary.hosted, summary.attempted) == (SHARDS - 1, SHARDS)
        restored = CheckpointHead(sequence=0, number=0, halted=0, pages=0)
        await bus.publish(head, msgspec.json.encode(restored))
        await eventually(lambda: len(shards.live) == SHARDS, within=60)
        await eventually(shards.complete.is_set)
        assert (shards.unreadable, _summary(shards).failures, _summary(shards).hosted) == ({}, [], SHARDS)
        shards.close()
        await eventually(lambda: not shards.live, within=60)


async def test_an_unreadable_checkpoint_is_looked_at_again_only_after_a_while(bus: Bus) -> None:
    """Each look reads the whole event stream."""
    await bus.publish(subjects.checkpoint_head(TORN), b"torn")
    counted = Counted(bus)
    async with running(counted.shards.run()):
        await eventually(counted.shards.complete.is_set, within=60)
        until = counted.shards._not_before[TORN]
        assert until - asyncio.get_running_loop().time() > 20
        assert counted.histories == 1
        counted.shards.close()
        await eventually(lambda: not counted.shards.live, within=60)
