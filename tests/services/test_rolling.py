"""Swarms' memories rolled up over a real broker: compressor, thinkers, and a stand-in for the owner [A18]."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Request, listening
from libs.bus.errors import NoAnswer
from libs.bus.loop import MessageLoop, Postpone
from libs.bus.telemetry import NoTelemetry
from libs.cognition.compose import Answer, compose
from libs.cognition.rollup import roll_up_event
from libs.contracts import subjects
from libs.contracts.journal import JournalEvent, ShardRecord, ThoughtEntry
from libs.contracts.lives import Spent
from libs.contracts.refusals import Conflict
from libs.contracts.rollups import (
    RollUpAnswer,
    RollUpAsk,
    RollUpReply,
    RollUpRequest,
    RollUpTerms,
    SharedSnapshot,
    SummaryRequest,
)
from libs.contracts.thoughts import MemorySnapshot, SnapshotScope
from libs.contracts.tokens import shard_of
from libs.runtime.metrics import ProcessMetrics
from services.compressor import rolling as rules
from services.compressor.metrics import CompressorMetrics
from services.compressor.publishing import Publishing
from services.compressor.rolling import Rolling
from services.compressor.rollups import RollUps, Taken, rolled_up
from services.gateway.event_log import snapshot_page
from services.thinker.backends.base import Backend
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.metrics import ThinkerMetrics
from services.thinker.summaries import AT_ONCE, Summaries
from tests.bus.support import running
from tests.endpoint.serving import settings
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually
from tests.unit.make import item

INTERVAL_S = 0.2


class Journal:
    """Records appended as owners append them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._numbers: dict[int, int] = defaultdict(int)

    async def append(
        self, shard: int, *thoughts: ThoughtEntry, events: list[JournalEvent] | None = None
    ) -> None:
        self._numbers[shard] += 1
        record = ShardRecord(
            number=self._numbers[shard], owner="test", thoughts=list(thoughts), events=events or []
        )
        await self._bus.publish(subjects.journal(shard), msgspec.json.encode(record))

    async def snapshots(self, *names: str, count: int = 4, **more: Any) -> None:
        """Snapshots of personas that share, of the swarm `s` unless said otherwise."""
        for name in names:
            words = {"swarm_id": "s", "shares": True} | more
            asked = msgspec.structs.replace(item(name, count), **words)
            answer = Answer(text=f"{name} is calm.", model="m")
            await self.append(shard_of(name), compose(asked, 1, answer, datetime.now(UTC)))


class Owner:
    """Journals roll-ups, each once, as the owner of a swarm's shard does."""

    def __init__(self, journal: Journal) -> None:
        self.requests: list[RollUpRequest] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self._journal = journal
        self._known: set[str] = set()
        self.asked: list[RollUpAsk] = []
        self.answer = RollUpAnswer()
        """What is said to whoever asks whether a model may sum up."""

    async def admit(self, message: RollUpAsk, _: Request) -> bytes:
        self.asked.append(message)
        return msgspec.json.encode(self.answer)

    async def roll_up(self, message: RollUpRequest, _: Request) -> bytes:
        if message.id in self._known:
            return msgspec.json.encode(RollUpReply(repeated=True))
        if self.before is not None:
            await self.before()
        self._known.add(message.id)
        self.requests.append(message)
        event = roll_up_event(message, datetime.now(UTC))
        await self._journal.append(shard_of(message.swarm_id), events=[event])
        return msgspec.json.encode(RollUpReply())


@asynccontextmanager
async def owning(bus: Bus, owner: Owner, *swarm_ids: str) -> AsyncIterator[None]:
    loop = MessageLoop("roll-up", msgspec.json.Decoder(RollUpRequest).decode, owner.roll_up, NoTelemetry())
    admitting = MessageLoop("admit", msgspec.json.Decoder(RollUpAsk).decode, owner.admit, NoTelemetry())
    async with Gate() as gate, AsyncExitStack() as stack:
        for shard in {shard_of(swarm_id) for swarm_id in swarm_ids}:
            await stack.enter_async_context(listening(bus, subjects.roll_up(shard), loop, gate))
            asked = listening(bus, subjects.roll_up_credits(shard), admitting, gate)
            await stack.enter_async_context(asked)
        yield


@asynccontextmanager
async def summing_up(bus: Bus, backend: Backend) -> AsyncIterator[CollectorRegistry]:
    """A thinker with a backend, and what it counts."""
    registry = CollectorRegistry()
    summaries = Summaries(lambda: backend, ThinkerMetrics(registry, lambda: 0))
    loop = MessageLoop("sum", msgspec.json.Decoder(SummaryRequest).decode, summaries.sum_up, NoTelemetry())
    async with Gate() as gate, listening(bus, subjects.SUMMARIES, loop, gate, queue="summaries"):
        yield registry


class Compressor:
    """Publishing and rolling up."""

    def __init__(self, bus: Bus, interval_s: float = INTERVAL_S) -> None:
        self.process = ProcessMetrics("compressor", "c", "0")
        metrics = CompressorMetrics(self.process)
        self.charge = True
        self.rollups = RollUps(interval_s)
        self.publishing = Publishing(
            bus, lambda: self.charge, metrics, lambda record, sequence: self.rolling.note(record, sequence)
        )
        publishes = self.publishing.publishes.is_set
        self.rolling = Rolling(bus, self.rollups, interval_s, publishes, lambda: self.charge, metrics)

    def counted(self, name: str, **labels: str) -> float:
        return self.process.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def compressing(bus: Bus, interval_s: float = INTERVAL_S) -> AsyncIterator[Compressor]:
    made = Compressor(bus, interval_s)
    async with running(made.publishing.run(), made.rolling.run()):
        await eventually(made.publishing.publishes.is_set)
        yield made


async def rolled(bus: Bus, swarm_id: str | None = None) -> list[MemorySnapshot]:
    page = await snapshot_page(bus, 0, 1000, SnapshotScope.SWARM, swarm_id)
    return [one.snapshot for one in page.snapshots]


@asynccontextmanager
async def asking(server: Endpoint) -> AsyncIterator[OpenAICompat]:
    backend = OpenAICompat(settings(server.base_url), "a test named it")
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for long."""
    monkeypatch.setattr(rules, "ADMITTED_WITHIN_S", 1.5)
    monkeypatch.setattr(rules, "SUMMARY_WITHIN_S", 1.5)
    monkeypatch.setattr(rules, "STORED_WITHIN_S", 1.5)
    monkeypatch.setattr(rules, "_OWNER_ANSWERS_WITHIN_S", 0.3)


@pytest.mark.fact("A18")
async def test_a_model_sums_up_what_a_swarm_s_personas_share(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    with endpoint(lambda _: "All of them are calm.") as server:
        async with (
            asking(server) as backend,
            summing_up(bus, backend) as counted,
            owning(bus, owner, "s"),
            compressing(bus) as compressor,
        ):
            await journal.snapshots("a", "b")
            await journal.snapshots("secret", shares=False)
            await eventually(lambda: owner.requests, what="a roll-up")
            snapshots = await eventually(lambda: rolled(bus), what="its snapshot")
        (request,) = server.requests
    (snapshot,) = snapshots
    assert (snapshot.summary, snapshot.swarm_id) == ("All of them are calm.", "s")
    assert (snapshot.persona_scope, snapshot.cold_snapshot_count) == (["a", "b"], 2)
    assert (snapshot.metadata["source"], snapshot.metadata["model"]) == ("model", "qwen2.5:3b-instruct")
    asked = request["messages"][1]["content"]
    assert '- "name of a", "observer": "a is calm."\n- "name of b", "observer": "b is calm."' in asked
    assert "secret" not in asked
    assert compressor.counted("perpetua_roll_ups_total", source="model") == 1
    assert counted.get_sample_value("perpetua_summaries_total", {"outcome": "made"}) == 1
    assert counted.get_sample_value("perpetua_tokens_total", {"kind": "completion"}) == 20


@pytest.mark.fact("A18")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("failing", ["fails", "slow"])
async def test_where_the_model_fails_the_roll_up_has_the_deterministic_form(bus: Bus, failing: str) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    with endpoint(lambda _: 400 if failing == "fails" else "Late.") as server:
        server.delay = 3.0 if failing == "slow" else 0.0
        async with (
            asking(server) as backend,
            summing_up(bus, backend),
            owning(bus, owner, "s"),
            compressing(bus),
        ):
            await journal.snapshots("a", "b")
            (snapshot,) = await eventually(lambda: rolled(bus), what="its snapshot")
    assert snapshot.summary == "name of a: a is calm.\nname of b: b is calm."
    assert snapshot.metadata["source"] == "fallback"
    said = {"fails": "HTTP 400", "slow": "no summary within"}[failing]
    (request,) = owner.requests
    assert said in (request.error or "")
    assert (request.spent.thoughts, request.spent.tokens) == (1, 0), (
        "it was asked, and says nothing of tokens"
    )
    assert request.spent.cpu_ms >= (900 if failing == "slow" else 0)


@pytest.mark.fact("A16", "A18")
async def test_a_model_that_sums_up_is_paid_for_under_the_terms_that_were_told(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    owner.answer = RollUpAnswer(terms=RollUpTerms(account="root", number=7, window=5))
    with endpoint(lambda _: "Calm.") as server:
        async with (
            asking(server) as backend,
            summing_up(bus, backend),
            owning(bus, owner, "s"),
            compressing(bus),
        ):
            await journal.snapshots("a", "b")
            await eventually(lambda: owner.requests, what="a roll-up")
    (asked,), (request,) = owner.asked, owner.requests
    assert (asked.id, asked.swarm_id, asked.persona_id) == (request.id, "s", "b"), (
        "the newest one's tree pays"
    )
    assert asked.chars > len("a is calm.b is calm.")
    assert request.terms == owner.answer.terms
    assert (request.spent.thoughts, request.spent.tokens) == (1, 120)
    assert request.usage is not None and request.usage.total_tokens == 120


@pytest.mark.fact("A16", "A18")
async def test_without_credits_a_roll_up_has_the_deterministic_form_and_no_model_is_asked(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    owner.answer = RollUpAnswer(refused="no credits: root has none left")
    with endpoint(lambda _: "Calm.") as server:
        async with (
            asking(server) as backend,
            summing_up(bus, backend),
            owning(bus, owner, "s"),
            compressing(bus),
        ):
            await journal.snapshots("a", "b")
            await eventually(lambda: owner.requests, what="a roll-up")
        assert server.requests == []
    (request,) = owner.requests
    assert (request.source, request.error) == ("fallback", "no credits: root has none left")
    assert request.summary == "name of a: a is calm.\nname of b: b is calm."
    assert (request.spent, request.terms) == (Spent(), None)


@pytest.mark.fact("A18")
@pytest.mark.usefixtures("quick")
async def test_a_roll_up_whose_answer_is_lost_is_journaled_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any thinker, too: then its form is the deterministic one."""
    monkeypatch.setattr(rules, "STORED_WITHIN_S", 20.0)
    journal = Journal(bus)
    owner = Owner(journal)
    tries = 0

    async def slow() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Postpone("taking the shard over")
        await asyncio.sleep(0.5)  # longer than the compressor waits

    owner.before = slow
    async with owning(bus, owner, "s"), compressing(bus) as compressor:
        await journal.snapshots("a", "b")
        rolled_up = {"name": "perpetua_roll_ups_total", "source": "fallback"}
        await eventually(lambda: compressor.counted(**rolled_up) == 1, 20)
    assert (tries, len(await rolled(bus))) == (2, 1)
    assert "perpetua.summaries" in (owner.requests[0].error or "")


@pytest.mark.usefixtures("quick")
async def test_a_roll_up_that_no_owner_takes_is_lost_and_counted(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)

    async def refuse() -> None:
        raise Conflict("no such swarm")

    owner.before = refuse
    async with compressing(bus) as compressor:
        await journal.snapshots("a", "b")
        await eventually(lambda: compressor.counted("perpetua_roll_ups_lost_total") == 1, 20)
        async with owning(bus, owner, "s"):
            await journal.snapshots("a", "b", count=8)
            await eventually(lambda: compressor.counted("perpetua_roll_ups_lost_total") == 2, 20)
    assert await rolled(bus) == []


@pytest.mark.fact("A18")
async def test_thinkers_sum_up_two_at_once_and_who_finds_them_busy_asks_again(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    swarm_ids = [f"s{n}" for n in range(2 * AT_ONCE)]
    with endpoint(lambda _: "Calm.") as server:
        server.delay = 0.3
        async with (
            asking(server) as backend,
            summing_up(bus, backend),
            owning(bus, owner, *swarm_ids),
            compressing(bus),
        ):
            for swarm_id in swarm_ids:
                await journal.snapshots("a", "b", swarm_id=swarm_id)
            await eventually(lambda: len(owner.requests) == len(swarm_ids), 20, "a roll-up of each")
    assert {request.source for request in owner.requests} == {"model"}, "nobody had to do without"
    assert len(server.requests) == len(swarm_ids)


async def test_a_compressor_that_stands_by_rolls_nothing_up(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    async with owning(bus, owner, "s"), compressing(bus) as one:
        one.charge = False
        await eventually(lambda: not one.publishing.publishes.is_set(), 20)
        await journal.snapshots("a", "b")
        await asyncio.sleep(3 * INTERVAL_S)
        assert owner.requests == []


@asynccontextmanager
async def with_two_that_wait(bus: Bus) -> AsyncIterator[tuple[Compressor, Owner]]:
    """A compressor with two snapshots of a swarm that was rolled up a moment ago."""
    journal = Journal(bus)
    owner = Owner(journal)
    owner.answer = RollUpAnswer(refused="no credits")  # so that no summary is waited for
    async with owning(bus, owner, "s"), compressing(bus, 2.0) as one:
        await journal.snapshots("a", "b")
        await eventually(lambda: owner.requests, what="a roll-up")
        await journal.snapshots("a", "b", count=8)
        await eventually(lambda: one.rollups.waiting, what="two more")
        yield one, owner


LEFT_OUT = "perpetua_roll_up_snapshots_left_out_total"


@pytest.mark.fact("A18")
async def test_a_session_of_publishing_that_begins_anew_loses_no_snapshot(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads records again, but what was noted once is passed over."""
    monkeypatch.setattr("services.compressor.publishing._RETRY_S", 2.0)  # as long as four looks
    async with with_two_that_wait(bus) as (one, owner):
        session = one.publishing._failed
        assert session is not None
        session.set_exception(NoAnswer("x", "the broker was away"))
        await eventually(lambda: not one.publishing.publishes.is_set())
        await eventually(lambda: len(owner.requests) == 2, 20, "a roll-up of both")
        assert owner.requests[1].cold_snapshot_count == 2
        assert one.counted(LEFT_OUT) == 0


@pytest.mark.fact("A18")
async def test_snapshots_that_a_relieved_compressor_had_are_counted(bus: Bus) -> None:
    async with with_two_that_wait(bus) as (one, _):
        one.charge = False
        await eventually(lambda: one.counted(LEFT_OUT) == 2, 20, "what it forgot is counted")


@pytest.mark.fact("A18")
async def test_snapshots_are_read_by_scope_and_by_swarm(bus: Bus) -> None:
    journal = Journal(bus)
    made = Compressor(bus)
    async with running(made.publishing.run()):
        for swarm_id in ("s", "t", "s.1"):
            await journal.snapshots("a", "b", "_", swarm_id=swarm_id)
            folded = [
                SharedSnapshot(
                    persona_id="a", name="a", role="r", summary="x", hot_event_count=0, by_model=False
                )
            ]
            taken = rolled_up(Taken(id="i", swarm_id=swarm_id, snapshots=folded), None)
            await journal.append(5, events=[roll_up_event(taken, datetime.now(UTC))])
        await journal.snapshots("lone", swarm_id=None)

        async def page(limit: int = 100, **wanted: Any) -> list[tuple[str | None, list[str]]]:
            found: list[tuple[str | None, list[str]]] = []
            after = 0
            while True:
                got = await snapshot_page(bus, after, limit, **wanted)
                assert len(got.snapshots) <= limit
                found += [(s.snapshot.swarm_id, s.snapshot.persona_scope) for s in got.snapshots]
                if not got.snapshots:
                    return found
                after = got.next_after

        async def everything() -> bool:
            return len(await page()) == 13

        await eventually(everything, what="all snapshots")
        for limit in (1, 2, 100):
            swarm, persona = {"scope": SnapshotScope.SWARM}, {"scope": SnapshotScope.PERSONA}
            own: list[tuple[str | None, list[str]]] = [("s", ["a"]), ("s", ["b"]), ("s", ["_"])]
            assert await page(limit, **swarm) == [("s", ["a"]), ("t", ["a"]), ("s.1", ["a"])]
            assert await page(limit, **swarm, swarm_id="t") == [("t", ["a"])]
            assert await page(limit, **persona, swarm_id="s") == own
            assert await page(limit, swarm_id="s") == [*own, ("s", ["a"])]
            assert len(await page(limit, **persona)) == 10
            assert await page(limit, swarm_id="nowhere") == []
