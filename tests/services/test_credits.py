"""Credits of a tree whose personas lie in shards of different owners: exact, whoever is killed [A16]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.endpoints import Gate
from libs.bus.telemetry import NoTelemetry
from libs.contracts.accounts import AccountAsk, AccountsRequest, Credits, Settlement
from libs.contracts.personas import PolicyRequest
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.bank import Bank
from services.scheduler.serving import served
from services.scheduler.treasury import Admission, Treasury, Want
from tests.services.support import handlers, owner
from tests.services.test_shard_owners import owning
from tests.support.broker import Broker
from tests.unit.make import Tree

pytestmark = pytest.mark.usefixtures("patient")

ROOT = "root"
COST = Credits(400, 100)
MINUTE = 1_000_000
LIMITS = PolicyRequest(
    token_credits_per_minute=2000, cpu_credits_per_minute=100_000, max_branching_factor=100
)


def children(apart_from: int) -> Iterator[str]:
    """Names whose shards are another one, each another."""
    seen = {apart_from}
    for number in count():
        name = f"c{number}"
        if shard_of(name) not in seen:
            seen.add(shard_of(name))
            yield name


NAMES = [name for name, _ in zip(children(shard_of(ROOT)), range(6), strict=False)]


def family() -> Roster:
    """A root with 2000 tokens a minute, and children that could spend as much each."""
    tree = Tree()
    tree.create(ROOT, policy=LIMITS)
    for name in NAMES:
        tree.create(name, ROOT)
    return tree.roster


class Clock:
    """A wall clock that stands still within a minute."""

    def __init__(self) -> None:
        self.minute = MINUTE

    def __call__(self) -> float:
        return self.minute * 60 + 5.0


@asynccontextmanager
async def scheduler(
    bus: Bus, boot: str, names: list[str], roster: Roster, clock: Clock
) -> AsyncIterator[Treasury]:
    """A process that owns the shards of some personas; it dies as by kill when the context ends."""
    banks: dict[int, Bank] = {}
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(Gate())
        for shard in {shard_of(name) for name in names}:
            one = owner(bus, shard, boot)
            await stack.enter_async_context(owning(one))
            banks[shard] = Bank(one, roster, clock)
            answers = handlers(one, banks[shard], roster)
            await stack.enter_async_context(served(bus, shard, answers, gate, gate, NoTelemetry()))
        yield Treasury(bus, roster, banks)


def want(name: str, thought: int = 1, cost: Credits = COST, settled: Settlement | None = None) -> Want:
    return Want(name, thought, cost, settled)


@pytest.mark.fact("A16")
async def test_a_root_s_credits_bound_its_whole_tree_over_two_processes(bus: Bus, broker: Broker) -> None:
    """Six children ask at once in two processes; five times 400 tokens are 2000."""
    roster, clock = family(), Clock()
    async with (
        connect(broker.url, "other", NoTelemetry()) as other,
        scheduler(bus, "one", [ROOT, *NAMES[:3]], roster, clock) as ours,
        scheduler(other, "two", NAMES[3:], roster, clock) as theirs,
    ):
        both = await asyncio.gather(
            ours.admit([want(name) for name in NAMES[:3]]), theirs.admit([want(name) for name in NAMES[3:]])
        )
        found = dict(zip(NAMES, [admission for some in both for admission in some], strict=True))
        (refused,) = [name for name, admission in found.items() if not admission.granted]
        short = found[refused].short
        assert short is not None
        assert (short.account, short.credit, short.limit, short.committed) == (ROOT, "tokens", 2000, 2000)
        who = ours if refused in NAMES[:3] else theirs
        assert await who.admit([want(refused)]) == [found[refused]], "asked again, it is the same"
        clock.minute += 1
        assert (await who.admit([want(refused)]))[0].granted, "the next minute has credits anew"


@pytest.mark.fact("A16")
async def test_what_is_granted_outlives_the_process_that_keeps_the_account(bus: Bus, broker: Broker) -> None:
    roster, clock = family(), Clock()
    async with connect(broker.url, "other", NoTelemetry()) as other:
        async with scheduler(bus, "one", [ROOT, *NAMES], roster, clock) as first:
            assert all(a.granted for a in await first.admit([want(name) for name in NAMES[:5]]))
        async with scheduler(other, "two", [ROOT, *NAMES], roster, clock) as second:
            again = await second.admit([want(name) for name in NAMES])
            assert [a.granted for a in again] == [True] * 5 + [False], (
                "the five are known, the sixth is too many"
            )


@pytest.mark.fact("A16")
async def test_the_real_cost_is_settled_once_however_often_it_is_told(bus: Bus) -> None:
    roster, clock = family(), Clock()
    async with scheduler(bus, "one", [ROOT, *NAMES], roster, clock) as treasury:
        assert all(a.granted for a in await treasury.admit([want(name) for name in NAMES[:5]]))
        spent = Settlement(1, MINUTE, Credits(100, 20))
        for _ in range(3):
            await treasury.settle(NAMES[0], spent)
        assert (await treasury.admit([want(NAMES[5], cost=Credits(300, 100))]))[0].granted
        (none,) = await treasury.admit([want(NAMES[0], 2, Credits(1, 1), settled=spent)])
        assert not none.granted, "400 less 100 were free, and 300 of them are taken"


@pytest.mark.fact("A16")
async def test_who_is_refused_anywhere_holds_nothing_anywhere(bus: Bus) -> None:
    roster, clock = family(), Clock()
    async with scheduler(bus, "one", [ROOT, *NAMES], roster, clock) as treasury:
        (refused,) = await treasury.admit([want(NAMES[0], cost=Credits(2001, 1))])
        assert not refused.granted
        assert all(a.granted for a in await treasury.admit([want(name) for name in NAMES[:5]]))


@pytest.mark.fact("A16")
async def test_an_account_that_does_not_answer_admits_nobody_and_is_nobody_s_pause(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root's shard has no owner: whether it has credits is not known."""
    monkeypatch.setattr("services.scheduler.treasury._WITHIN_S", 1.0)
    roster, clock = family(), Clock()
    async with scheduler(bus, "one", NAMES[:1], roster, clock) as treasury:
        assert await treasury.admit([want(NAMES[0])]) == [Admission(False, None)]


async def test_a_stored_answer_is_the_same_when_the_request_is_repeated(bus: Bus) -> None:
    roster, clock = family(), Clock()
    one = owner(bus, shard_of(ROOT), "one")
    async with owning(one):
        bank = Bank(one, roster, clock)
        request = AccountsRequest(asks=[AccountAsk(ROOT, NAMES[0], 1, COST)])
        first = await bank.answer(request)
        number = one.ledger.number
        assert await bank.answer(request) == first
        assert one.ledger.number == number, "nothing new is stored for it"


@pytest.mark.fact("A16")
async def test_asked_again_before_it_is_stored_nothing_is_granted_yet(bus: Bus) -> None:
    """An owner that dies then has granted nothing, and the next one may grant it to another."""
    roster, clock = family(), Clock()
    one = owner(bus, shard_of(ROOT), "one")
    bank, request = Bank(one, roster, clock), AccountsRequest(asks=[AccountAsk(ROOT, NAMES[0], 1, COST)])
    asked = [asyncio.create_task(bank.answer(request)) for _ in range(2)]
    done, _ = await asyncio.wait(asked, timeout=0.2)
    assert not done, "the journal has nothing of it"
    async with owning(one):
        assert [reply.shorts for reply in await asyncio.gather(*asked)] == [[None], [None]]
