"""Swarms' memories rolled up over a real broker: compressor, thinkers, and a stand-in for the owner [A18]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.bus.connection import Bus
from libs.bus.errors import NoAnswer
from libs.bus.loop import Postpone
from libs.cognition.rollup import roll_up_event
from libs.contracts.lives import Spent
from libs.contracts.refusals import Conflict
from libs.contracts.rollups import (
    RollUpAnswer,
    RollUpTerms,
    SharedSnapshot,
)
from libs.contracts.thoughts import SnapshotScope
from services.compressor import rolling as rules
from services.compressor.rollups import Taken, rolled_up
from services.gateway.event_log import snapshot_page
from services.thinker.summaries import AT_ONCE
from tests.bus.support import running
from tests.services.rolling import (
    INTERVAL_S,
    Compressor,
    Journal,
    Owner,
    asking,
    compressing,
    owning,
    rolled,
    summing_up,
)
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thinker and no owner's journaling is waited for long."""
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
            by_model = {"name": "perpetua_roll_ups_total", "source": "model"}
            await eventually(lambda: compressor.counted(**by_model) == 1, what="its count")
        (request,) = server.requests
    (snapshot,) = snapshots
    assert (snapshot.summary, snapshot.swarm_id) == ("All of them are calm.", "s")
    assert (snapshot.persona_scope, snapshot.cold_snapshot_count) == (["a", "b"], 2)
    assert (snapshot.metadata["source"], snapshot.metadata["model"]) == ("model", "qwen2.5:3b-instruct")
    asked = request["messages"][1]["content"]
    assert '- "name of a", "observer": "a is calm."\n- "name of b", "observer": "b is calm."' in asked
    assert "secret" not in asked
    assert counted.get_sample_value("perpetua_summaries_total", {"outcome": "made"}) == 1
    assert counted.get_sample_value("perpetua_tokens_total", {"kind": "completion"}) == 20


@pytest.mark.fact("A18")
@pytest.mark.parametrize("failing", ["fails", "slow"])
async def test_where_the_model_fails_the_roll_up_has_the_deterministic_form(
    bus: Bus, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    if failing == "slow":  # a second for the model, and long enough for its answer's way
        monkeypatch.setattr(rules, "SUMMARY_WITHIN_S", 31.0)
        monkeypatch.setattr(rules, "_ON_ITS_WAY_S", 30.0)
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
async def test_a_roll_up_that_no_owner_takes_is_lost_and_counted(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "ADMITTED_WITHIN_S", 1.5)
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
async def with_two_that_wait(bus: Bus, interval_s: float) -> AsyncIterator[tuple[Compressor, Owner]]:
    """A compressor with two snapshots of a swarm that was rolled up a moment ago."""
    journal = Journal(bus)
    owner = Owner(journal)
    owner.answer = RollUpAnswer(refused="no credits")  # so that no summary is waited for
    async with owning(bus, owner, "s"), compressing(bus, interval_s) as one:
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
    async with with_two_that_wait(bus, 2.0) as (one, owner):
        session = one.publishing._failed
        assert session is not None
        session.set_exception(NoAnswer("x", "the broker was away"))
        await eventually(lambda: not one.publishing.publishes.is_set())
        await eventually(lambda: len(owner.requests) == 2, 20, "a roll-up of both")
        assert owner.requests[1].cold_snapshot_count == 2
        assert one.counted(LEFT_OUT) == 0


@pytest.mark.fact("A18")
async def test_snapshots_that_a_relieved_compressor_had_are_counted(bus: Bus) -> None:
    async with with_two_that_wait(bus, 600.0) as (one, _):
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
