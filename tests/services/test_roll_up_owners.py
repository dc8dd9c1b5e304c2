"""What a swarm remembers goes into the journal once, whoever asks how often, whoever owns the shard [A18]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from secrets import token_hex
from uuid import uuid4

import msgspec
import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate
from libs.bus.telemetry import NoTelemetry
from libs.contracts import subjects
from libs.contracts.accounts import Credits
from libs.contracts.journal import JournalEvent, RollUpCost
from libs.contracts.lives import SpendReply, Spent, SpentByPersona, SpentInHour
from libs.contracts.place import Place
from libs.contracts.rollups import ROLL_UP, RollUpAnswer, RollUpAsk, RollUpReply, RollUpRequest
from libs.contracts.thoughts import Source
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.checkpoint import Checkpoints
from services.scheduler.estimate import FIRST_CPU_MS
from services.scheduler.ledger import Ledger
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.roll_ups import ROLL_UPS_BYTES, ROLL_UPS_KNOWN, RollUps
from services.scheduler.rolling_up import RollingUp
from services.scheduler.serving import served
from services.scheduler.showing import Showing
from services.scheduler.treasury import Treasury, Want
from tests.services.support import handlers, owner, shard_records
from tests.services.test_credits import NAMES, ROOT, Clock, family
from tests.services.test_shard_owners import owning
from tests.support.eventually import eventually
from tests.unit.make import shard_record

pytestmark = pytest.mark.usefixtures("patient")

SHARD = shard_of("s")


def request(
    request_id: str, swarm_id: str = "s", first: Place | None = None, last: Place | None = None
) -> RollUpRequest:
    return RollUpRequest(
        first=first,
        last=last,
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


class Paying:
    """A root and its family, of whom one's snapshot is the newest, and the owners of root and swarm."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.clock, self.registry = bus, Clock(), CollectorRegistry()
        self.roster = family()
        self.bank, self.swarm = owner(bus, shard_of(ROOT), "bank"), owner(bus, SHARD, token_hex(4))

    async def may(self, roll_up_id: str, first: Place | None = None) -> RollUpAnswer:
        """Whether a model may be asked to sum up."""
        asked = RollUpAsk(id=roll_up_id, swarm_id="s", persona_id=NAMES[0], chars=300, first=first)
        return await self.bus.ask(subjects.roll_up_credits(SHARD), asked, RollUpAnswer, timeout=30)

    @property
    def committed(self) -> Credits:
        return self.bank.ledger.accounts.committed(ROOT, self.clock.minute)

    def spent(self) -> SpendReply:
        return Showing(self.roster, lambda _: None, lambda _: [], enforced=True).spend(self.swarm)

    def counted(self) -> float | None:
        labels = {"swarm": "s", "role": ROLL_UP}
        return self.registry.get_sample_value("perpetua_spent_tokens_total", labels)


@asynccontextmanager
async def paying(bus: Bus, *, enforced: bool = True) -> AsyncIterator[Paying]:
    """Owners that die as by kill when the context ends."""
    made = Paying(bus)
    assert shard_of(ROOT) != SHARD
    async with Gate() as gate, owning(made.bank), owning(made.swarm), AsyncExitStack() as stack:
        banks = {one.shard: Bank(one, made.roster, made.clock) for one in (made.bank, made.swarm)}
        treasury = Treasury(bus, made.roster, banks) if enforced else None
        metrics = SchedulerMetrics(made.registry)
        for one in (made.bank, made.swarm):
            rolling_up = RollingUp(one, treasury, 200, metrics, made.clock)
            answers = handlers(one, banks[one.shard], made.roster, rolling_up)
            await stack.enter_async_context(served(bus, one.shard, answers, gate, gate, NoTelemetry()))
        yield made


async def store(bus: Bus, what: RollUpRequest) -> RollUpReply:
    return await bus.ask(subjects.roll_up(SHARD), what, RollUpReply, timeout=30)


async def ask(bus: Bus, what: RollUpRequest) -> bool:
    """Whether it had been there before."""
    return (await store(bus, what)).repeated


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
async def test_what_one_roll_up_folds_in_no_other_does_also_where_the_next_owner_is_asked(bus: Bus) -> None:
    """A compressor that was stopped asks again after another has gone on, or both have read the same."""
    early, late = request("r1", first=(1, 1), last=(3, 1)), request("r2", first=(4, 1), last=(6, 2))
    stale = [early, request("r3", first=(5, 1), last=(9, 1)), request("r4", first=(6, 2), last=(7, 1))]
    async with answering(bus, "one") as one:
        for fresh in (early, late):
            assert await store(bus, fresh) == RollUpReply()
        for overlapping in stale:
            assert await store(bus, overlapping) == RollUpReply(behind=(6, 2))
        held = len(await shard_records(bus, SHARD))
        one.tidy(held)
        await eventually(lambda: one.is_tidy(held), what="a checkpoint")
    async with answering(bus, "two"):
        for overlapping in stale:
            assert await store(bus, overlapping) == RollUpReply(behind=(6, 2)), "the checkpoint says so"
        assert await store(bus, request("r5", first=(6, 3), last=(9, 1))) == RollUpReply()
    async with answering(bus, "three"):
        assert await store(bus, request("r6", first=(9, 1), last=(9, 2))) == RollUpReply(behind=(9, 1))
        assert await store(bus, request("r5", first=(6, 3), last=(9, 1))) == RollUpReply(repeated=True)
    told = [msgspec.json.decode(event.event)["payload"]["thinking"] for event in await journaled(bus)]
    assert "All is calm, says r5." in told and len(told) == len(set(told))
    assert not [text for text in told if text[-3:-1] in ("r3", "r4", "r6")]


@pytest.mark.fact("A18")
async def test_roll_ups_of_a_swarm_that_overlap_and_are_asked_for_at_once_are_one(bus: Bus) -> None:
    asked = [request(f"r{n}", first=(n, 1), last=(9, 1)) for n in range(1, 5)]
    async with answering(bus, "one"):
        await asyncio.gather(*(store(bus, one) for one in asked), return_exceptions=True)
        assert len(await journaled(bus)) == 1


@pytest.mark.fact("A16", "A18")
async def test_for_what_is_folded_in_already_nothing_is_set_aside(bus: Bus) -> None:
    async with paying(bus) as tree:
        await store(bus, request("r1", first=(1, 1), last=(3, 1)))
        answer = await tree.may("r2", first=(3, 1))
        assert answer.behind == (3, 1) and answer.refused is not None
        assert tree.committed == Credits(0, 0)
        assert (await tree.may("r3", first=(3, 2))).terms is not None


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
    assert len(one.roll_ups) == ROLL_UPS_KNOWN
    assert one.roll_ups.last("s2") is None
    assert one.roll_ups.last(f"s{ROLL_UPS_KNOWN + 2}") == f"r{ROLL_UPS_KNOWN + 2}"


def test_however_long_ids_are_roll_ups_have_room_in_a_checkpoints_head() -> None:
    known = RollUps()
    most = Spent(2**53, 2**53, 2**53)
    for number in range(ROLL_UPS_KNOWN):
        name = f"{number:04}" + "\x01" * 124
        known.add(name, str(uuid4()), (2**53, 2**31))
        known.spend(RollUpCost(name, datetime.now(UTC), most), fresh=True)
    dumped = [known.dump_ids(), known.dump_places(), known.dump_spent(), known.dump_costs()]
    assert ROLL_UPS_BYTES / 2 < len(msgspec.json.encode(dumped)) <= ROLL_UPS_BYTES
    again = RollUps()
    again.restore(known.dump_ids(), known.dump_spent(), known.dump_places(), known.dump_costs())
    again.add("more" + "\x01" * 124, str(uuid4()))
    assert len(again) == len(known), "what it weighs is known after a takeover, too"


@pytest.mark.fact("A16", "A18")
async def test_a_summary_is_paid_for_by_the_root_and_settled_at_what_it_really_cost(bus: Bus) -> None:
    """As long as 300 characters, an answer of 200 tokens and what stands around them: 500 tokens."""
    async with paying(bus) as tree:
        terms = (await tree.may("r1")).terms
        assert terms is not None and terms.account == ROOT
        assert tree.committed == Credits(500, FIRST_CPU_MS)
        assert (await tree.may("r1")).terms == terms
        assert tree.committed == Credits(500, FIRST_CPU_MS), "asked again, it is set aside once"
        cost = structs.replace(request("r1"), spent=Spent(1, 120, 80), terms=terms)
        assert [await ask(bus, cost), await ask(bus, cost)] == [False, True]
        assert tree.committed == Credits(120, 80)
        assert (await tree.may("r2")).terms is not None
        assert tree.committed == Credits(120 + 144, 80 + 96), "the next one is expected to cost a fifth more"


@pytest.mark.fact("A16", "A18")
async def test_where_the_root_is_out_of_credits_no_model_may_sum_up(bus: Bus) -> None:
    async with paying(bus) as tree:
        treasury = Treasury(bus, tree.roster, {tree.bank.shard: Bank(tree.bank, tree.roster, tree.clock)})
        (admission,) = await treasury.admit([Want(ROOT, 1, Credits(1800, 10))])
        assert admission.granted
        answer = await tree.may("r1")
        assert answer == RollUpAnswer(
            refused="no credits: a summary is expected to cost 500 tokens, and root has committed 1800 of "
            "the 2000 of this minute"
        )
        assert tree.committed == Credits(1800, 10)
        tree.clock.minute += 1
        assert (await tree.may("r1")).terms is not None, "the next minute has credits anew"
        assert await ask(bus, request("r1")) is False
        assert tree.committed == Credits(500, FIRST_CPU_MS), "of what nobody tells the cost it stays"


@pytest.mark.fact("A16", "A18")
async def test_what_roll_ups_cost_is_spent_once_and_remembered_by_the_next_owner(bus: Bus) -> None:
    checkpointed = structs.replace(request("r4"), spent=Spent(1, 1, 1))
    async with paying(bus, enforced=False) as tree:
        assert await tree.may("r1") == RollUpAnswer(), "credits are not enforced"
        for number, tokens in ((1, 120), (1, 120), (2, 30)):
            await ask(bus, structs.replace(request(f"r{number}"), spent=Spent(1, tokens, 80)))
        await ask(bus, request("r3"))
        spent = tree.spent()
        assert spent.personas == [SpentByPersona("(roll-up) s", Spent(2, 150, 160))]
        hour = int(tree.clock()) // 3600
        assert spent.hours == [SpentInHour(hour, "s", "(roll-up)", Spent(2, 150, 160))]
        assert tree.counted() == 150
        held = len(await shard_records(bus, SHARD))
        tree.swarm.tidy(held)
        await eventually(lambda: tree.swarm.is_tidy(held), what="a checkpoint")
        kept = Ledger(SHARD)
        await Checkpoints(bus, SHARD).load(kept)
        assert kept.roll_ups.cost("s")[0] == Credits(30, 80), "what the next one is expected to cost goes by"
        await ask(bus, checkpointed)
    async with paying(bus, enforced=False) as tree:
        assert tree.spent().personas == [SpentByPersona("(roll-up) s", Spent(3, 151, 161))]
        assert [one.spent for one in tree.spent().hours] == [Spent(3, 151, 161)]
        assert await ask(bus, checkpointed), "it was there"
