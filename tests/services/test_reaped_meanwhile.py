"""A persona that is reaped while its shard changes hands thinks no more [2.9]."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.contracts import streams, subjects
from libs.contracts.control import StartCognitionRequest
from libs.contracts.tokens import shard_of
from libs.contracts.work import Chunk
from services.scheduler import service
from services.scheduler.history import History, read_history
from tests.bus.support import held
from tests.services.asking import answering_registry
from tests.services.crashing import Running
from tests.services.support import owner, shard_records
from tests.support.broker import Broker
from tests.support.eventually import eventually

ANN = "ann"
SHARD = shard_of(ANN)
BEN = next(f"p{n}" for n in range(1000) if shard_of(f"p{n}") == SHARD)


async def behind(*_: object) -> None:
    """A roster's follower, as it is for seconds after an outage."""
    await asyncio.Event().wait()


async def queued(bus: Bus) -> set[str]:
    """Whose thoughts the shard's queue holds."""
    found = await held(bus, streams.THINK, subjects.think(SHARD))
    chunks = [msgspec.json.decode(message.data, type=Chunk) for message in found]
    return {item.persona_id for chunk in chunks for item in chunk.items}


@pytest.mark.fact("2.9")
async def test_who_is_reaped_while_a_shard_is_taken_over_is_not_thought_of_by_its_new_owner(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker is behind the last owner's checkpoint, and trimmed, before the new one reads either."""

    async with answering_registry(bus) as asked:

        async def meanwhile(*arguments: Any) -> History:
            history = await read_history(*arguments)
            if not await shard_records(bus, SHARD):
                await asked.reap(ANN)
                await eventually(lambda: is_marked(bus), what="the marker")
                await owner(bus, SHARD, "the last owner").take_over()
                purged = {"filter": subjects.journal(SHARD), "keep": 1}
                await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", purged)
            return history

        monkeypatch.setattr(service, "read_history", meanwhile)
        monkeypatch.setattr(service, "follow", behind)
        await asked.create(ANN, BEN)
        rules = asked.registry.rules
        await asked.registry.committer.commit(lambda view: rules.start(view, StartCognitionRequest()))
        scheduler = Running("scheduler", broker.url)
        try:
            await scheduler.until_ready()
            await eventually(lambda: is_queued(bus, BEN), 30, "a thought of the other")
            assert ANN not in await queued(bus)
        finally:
            await scheduler.close()


async def is_marked(bus: Bus) -> bool:
    return any(ANN in record.reap for record in await shard_records(bus, SHARD))


async def is_queued(bus: Bus, persona_id: str) -> bool:
    return persona_id in await queued(bus)
