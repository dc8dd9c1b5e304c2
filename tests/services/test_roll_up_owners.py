"""What a swarm remembers goes into the journal once, whoever asks how often, whoever owns the shard [A18]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate
from libs.bus.telemetry import NoTelemetry
from libs.contracts import subjects
from libs.contracts.journal import JournalEvent
from libs.contracts.rollups import RollUpReply, RollUpRequest
from libs.contracts.thoughts import Source
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.ledger import ROLL_UPS_KNOWN, Ledger
from services.scheduler.owner import ShardOwner
from services.scheduler.serving import served
from tests.services.support import handlers, owner, shard_records
from tests.services.test_shard_owners import owning
from tests.unit.make import shard_record

SHARD = shard_of("s")


def request(request_id: str, swarm_id: str = "s") -> RollUpRequest:
    return RollUpRequest(
        id=request_id,
        swarm_id=swarm_id,
        persona_scope=["a", "b"],
        summary=f"All is calm, says {request_id}.",
        cold_snapshot_count=2,
        hot_event_count=5,
        warm_fact_count=1,
        source=Source.FALLBACK,
        model=None,
        usage=None,
    )


@asynccontextmanager
async def answering(bus: Bus, boot: str) -> AsyncIterator[ShardOwner]:
    """An owner that answers for its shard; it dies as by kill when the context ends."""
    roster, one = Roster(), owner(bus, SHARD, boot)
    async with Gate() as gate, owning(one):
        answers = handlers(one, Bank(one, roster), roster)
        async with served(bus, SHARD, answers, gate, gate, NoTelemetry()):
            yield one


async def ask(bus: Bus, what: RollUpRequest) -> bool:
    """Whether it had been there before."""
    reply = await bus.ask(subjects.roll_up(SHARD), what, RollUpReply, timeout=5)
    return reply.repeated


async def journaled(bus: Bus) -> list[JournalEvent]:
    return [event for record in await shard_records(bus, SHARD) for event in record.events]


@pytest.mark.fact("A18")
async def test_a_roll_up_is_journaled_once_also_by_the_next_owner(bus: Bus) -> None:
    async with answering(bus, "one") as one:
        assert not await ask(bus, request("r1"))
        assert await ask(bus, request("r1"))
        one.tidy(0)
    async with answering(bus, "two"):
        assert await ask(bus, request("r1")), "it is known from the checkpoint, or from the journal"
        assert not await ask(bus, request("r2"))
    events = await journaled(bus)
    told = [msgspec.json.decode(event.event)["payload"]["thinking"] for event in events]
    assert told[-1] == "All is calm, says r2." and len(told) == len(set(told))
    assert {(event.swarm_id, event.persona_id, event.event_type) for event in events} == {
        ("s", None, "snapshot_compressed")
    }


@pytest.mark.fact("A18")
async def test_two_compressors_that_ask_at_once_get_one_roll_up(bus: Bus) -> None:
    async with answering(bus, "one"):
        asked = await asyncio.gather(*(ask(bus, request("r1")) for _ in range(4)), return_exceptions=True)
        assert asked.count(False) == 1, "one stored it; who came meanwhile is told to ask again, or hears so"
        assert len(await journaled(bus)) == 1


def test_of_very_many_swarms_the_roll_ups_made_last_are_known() -> None:
    one = Ledger(SHARD)
    for number in range(1, ROLL_UPS_KNOWN + 3):
        one.fold(number, shard_record(number=number, rolled_up=[(f"s{number}", f"r{number}")]))
    assert len(one.rolled_up) == ROLL_UPS_KNOWN
    assert "s2" not in one.rolled_up and one.rolled_up[f"s{ROLL_UPS_KNOWN + 2}"] == f"r{ROLL_UPS_KNOWN + 2}"
