"""A shard whose journal has no room answers that it has none, and holds up no other shard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec import structs
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from libs.bus.connection import ERROR_CODE, Bus
from libs.bus.endpoints import Gate
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.accounts import AccountAsk, AccountsRequest, Credits
from libs.contracts.limits import JOURNAL_DEPTH, MARKER_ROOM, MAX_DELIVER
from libs.contracts.lives import Spent
from libs.contracts.rollups import ROLL_UP
from libs.contracts.tokens import shard_of
from libs.contracts.work import Grant, GrantRequest
from libs.journal.position import PublicPosition
from services.scheduler.bank import Bank
from services.scheduler.dispatches import Dispatch
from services.scheduler.lost_work import LostWork
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.rolling_up import RollingUp
from services.scheduler.serving import served
from services.scheduler.treasury import Treasury
from tests.services.support import Heard, handlers, owner, shard_records
from tests.services.test_credits import NAMES, ROOT, Clock, family, want
from tests.services.test_roll_up_owners import request as roll_up
from tests.services.test_shard_owners import owning
from tests.support.eventually import eventually
from tests.unit.make import chunk, entry, thought

SHARD = shard_of(ROOT)
OTHER = shard_of(NAMES[0])
MORE_THAN_A_GATE_ADMITS = 300
SOON_S = 20.0
"""An answer comes within a second or so, but for stalls; without one whoever asks waits for minutes."""


@asynccontextmanager
async def full(bus: Bus) -> AsyncIterator[tuple[ShardOwner, PublicPosition]]:
    """The owner of a shard whose journal has no room, and that has a thought to store."""
    position = PublicPosition()
    one = owner(bus, SHARD, "boot", position)
    async with owning(one), Background() as tasks:
        for count in range(1, JOURNAL_DEPTH - MARKER_ROOM):
            await one.submit([thought("p", count)])
        storing = tasks.create_task(one.submit([thought("p", JOURNAL_DEPTH - MARKER_ROOM)]))
        await asyncio.sleep(0.1)
        assert not storing.done()
        yield one, position


@asynccontextmanager
async def serving(bus: Bus, stuck: ShardOwner) -> AsyncIterator[None]:
    """A process that owns the full shard and another one."""
    roster = family()
    async with owning(elsewhere := owner(bus, OTHER, "boot")), Gate() as gate:
        stuck_ones = handlers(stuck, Bank(stuck, roster, Clock()), roster)
        others = handlers(elsewhere, Bank(elsewhere, roster, Clock()), roster)
        async with (
            served(bus, SHARD, stuck_ones, gate, gate, NoTelemetry()),
            served(bus, OTHER, others, gate, gate, NoTelemetry()),
        ):
            yield


def grant(shard: int, number: int = 0) -> GrantRequest:
    return GrantRequest(chunk=f"unknown-{number}", shard=shard, sequence=1, deliveries=1, thinker="t")


async def ask(bus: Bus, subject: str, request: msgspec.Struct) -> Msg:
    return await bus.client.request(subject, msgspec.json.encode(request), timeout=60)


def is_granted(answer: Msg) -> bool:
    return ERROR_CODE not in (answer.headers or {})


async def granted(bus: Bus, request: GrantRequest) -> Grant:
    """Ask again, as thinkers do, where the owner was not sure within a second: a busy machine may stall."""
    while not is_granted(answer := await ask(bus, subjects.grant(request.shard), request)):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return msgspec.json.decode(answer.data, type=Grant)


@pytest.mark.fact("3.2")
async def test_grants_of_a_full_shard_hold_up_no_grant_of_another(bus: Bus) -> None:
    """Whoever is asked for an unknown chunk looks whether it is the owner still, room or none."""
    async with full(bus) as (stuck, _), serving(bus, stuck), Background() as tasks:
        asked = [tasks.create_task(granted(bus, grant(SHARD, n))) for n in range(MORE_THAN_A_GATE_ADMITS)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(SOON_S):
            await granted(bus, grant(OTHER))
            assert all(one.items == [] for one in await asyncio.gather(*asked))


@pytest.mark.fact("A16")
async def test_accounts_of_a_full_shard_hold_up_no_grant_of_another(bus: Bus) -> None:
    async with full(bus) as (stuck, _), serving(bus, stuck), Background() as tasks:
        asked = [
            tasks.create_task(
                ask(
                    bus,
                    subjects.accounts(SHARD),
                    AccountsRequest(asks=[AccountAsk(ROOT, f"c{n}", 1, Credits(1, 1))]),
                )
            )
            for n in range(MORE_THAN_A_GATE_ADMITS)
        ]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(SOON_S):
            await granted(bus, grant(OTHER))
            assert not any(map(is_granted, await asyncio.gather(*asked)))
        waiting = len(stuck._notes)
        late = AccountsRequest(asks=[AccountAsk(ROOT, "late", 1, Credits(1, 1))])
        assert not is_granted(await ask(bus, subjects.accounts(SHARD), late))
        assert len(stuck._notes) == waiting, "what waits to be stored grows no more"


@pytest.mark.fact("A16")
async def test_who_thinks_on_credits_of_a_full_shard_of_this_process_waits_without_holding_up_anybody(
    bus: Bus,
) -> None:
    """Once there is room it may think: what was set aside for it is its own."""
    roster = family()
    async with full(bus) as (stuck, position), owning(elsewhere := owner(bus, OTHER, "boot")):
        banks = {one.shard: Bank(one, roster, Clock()) for one in (stuck, elsewhere)}
        treasury = Treasury(bus, roster, banks)
        for _ in range(2):
            async with asyncio.timeout(SOON_S):
                (admission,) = await treasury.admit([want(NAMES[0])])
            assert (admission.granted, admission.short) == (False, None)
        position.advance(2**60)

        async def granted() -> bool:
            return (await treasury.admit([want(NAMES[0])]))[0].granted

        await eventually(granted)
    changes = [c for record in await shard_records(bus, SHARD) for c in record.credits]
    assert len(changes) == 1


async def never(_: ShardOwner, __: Dispatch) -> None:
    raise AssertionError("nothing is dispatched")


@pytest.mark.fact("3.11")
async def test_a_thinker_keeps_what_cannot_be_given_up_yet(bus: Bus) -> None:
    metrics = SchedulerMetrics(CollectorRegistry())
    async with full(bus) as (stuck, position), Background() as tasks:
        work = chunk("deadly", "q")
        dispatch = stuck.dispatches.begin(*entry(work), asyncio.get_running_loop().time(), 1)
        dispatch.attempts = MAX_DELIVER
        lost = LostWork(bus, {SHARD: stuck}, never, metrics, tasks, Heard())
        roster = family()
        answers = handlers(stuck, Bank(stuck, roster), roster, suspected=lost.suspected)
        asked = GrantRequest(chunk="deadly", shard=SHARD, sequence=1, deliveries=9, thinker="t")
        async with Gate() as gate, served(bus, SHARD, answers, gate, gate, NoTelemetry()):
            for _ in range(2):
                async with asyncio.timeout(SOON_S):
                    assert not is_granted(await ask(bus, subjects.grant(SHARD), asked))
            position.advance(2**60)

            async def over() -> bool:
                return is_granted(await ask(bus, subjects.grant(SHARD), asked))

            await eventually(over)
    stored = [t.persona_id for record in await shard_records(bus, SHARD) for t in record.thoughts]
    assert stored.count("q") == 1


@pytest.mark.fact("A18")
async def test_a_roll_up_that_waits_for_room_is_stored_once(bus: Bus) -> None:
    request = structs.replace(roll_up("roll-up", "s"), spent=Spent(1, 10, 5))
    metrics = SchedulerMetrics(registry := CollectorRegistry())
    async with full(bus) as (stuck, position):
        roster = family()
        answers = handlers(stuck, Bank(stuck, roster), roster, RollingUp(stuck, None, 256, metrics))
        async with Gate() as gate, served(bus, SHARD, answers, gate, gate, NoTelemetry()):
            for _ in range(3):
                async with asyncio.timeout(SOON_S):
                    assert not is_granted(await ask(bus, subjects.roll_up(SHARD), request))
            position.advance(2**60)

            async def stored() -> bool:
                return is_granted(await ask(bus, subjects.roll_up(SHARD), request))

            await eventually(stored)
    rolled_up = [one for record in await shard_records(bus, SHARD) for one in record.rolled_up]
    assert rolled_up == [("s", "roll-up")]
    labels = {"swarm": "s", "role": ROLL_UP}
    assert registry.get_sample_value("perpetua_spent_tokens_total", labels) == 10
