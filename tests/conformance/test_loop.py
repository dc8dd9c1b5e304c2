"""Facts 3.2 to 3.5 and 4.x: ticking, starting, stopping."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_personas import WHO, create
from tests.conformance.test_thoughts import thinking_with, thoughts
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm


def status(running: Swarm) -> dict[str, Any]:
    found: dict[str, Any] = running.get("/v1/cognition/status")
    return found


def count(running: Swarm, persona: str = "root-thinker") -> int:
    return int(running.get(f"/v1/swarm/personas/{persona}")["thought_count"])


def thought(running: Swarm, persona: str, number: int) -> dict[str, Any]:
    """The persona's thought with a number, once it is public, which it is after it counts."""
    found = eventually_sync(
        lambda: next(
            (e for e in thoughts(running, persona) if e["payload"]["thought_count"] == number), None
        ),
        30,
        f"thought {number} of {persona}",
    )
    assert found is not None
    return found


@pytest.mark.fact("3.2")
def test_a_slow_thought_skips_its_personas_ticks_and_holds_nobody_back(model: Endpoint) -> None:
    """The slow persona's model answers once the other has thought ten times, and no tick piles up."""

    def reply(request: dict[str, Any]) -> str:
        if "name: sloth" in json.dumps(request):
            begun = model.calls_about("name: root-thinker")
            eventually_sync(lambda: model.calls_about("name: root-thinker") >= begun + 10, 20)
        return "done"

    model.reply = reply
    with thinking_with(model) as running:
        create(running, "sloth", name="sloth")
        eventually_sync(lambda: count(running, "sloth") >= 3, 50)
        assert count(running) > 5 * count(running, "sloth")
        assert model.calls_about("name: sloth") <= count(running, "sloth") + 1


@pytest.mark.fact("3.4")
@pytest.mark.fact("4.3")
def test_the_first_tick_comes_at_once_and_ticks_go_on_without_personas() -> None:
    with swarm(settings={"AUTO_START": "false", "LOOP_INTERVAL_MS": "60000"}) as running:
        running.post("/v1/cognition/start")
        eventually_sync(lambda: count(running) == 1, 30, "a tick long before the interval is over")
        running.post("/v1/cognition/start", {"loop_interval_ms": 100})
        running.post("/v1/swarm/personas/root-thinker/reap")
        before = status(running)
        assert (before["persona_count"], before["active_persona_count"]) == (1, 0)
        eventually_sync(lambda: status(running)["last_tick_at"] > before["last_tick_at"], 30)
        state = running.get("/v1/swarm/personas/root-thinker")
        assert state["status"] == "reaped"


@pytest.mark.fact("4.1")
def test_start_seeds_only_where_no_persona_is_and_is_idempotent_also_when_it_races() -> None:
    with swarm(settings={"AUTO_START": "false"}) as running:
        seed = {"persona_id": "first", **WHO, "swarm_id": "alpha"}
        wrong = running.http("POST", "/v1/cognition/start", {"loop_interval_ms": 300, "seed_persona": seed | {
            "parent_id": "nobody"
        }})  # fmt: skip
        assert (wrong.status, wrong.json["detail"]) == (404, "Parent persona not found: nobody")
        assert status(running)["loop_interval_ms"] == 2000, "a refused seed changes nothing"
        assert not status(running)["running"]
        body = {"loop_interval_ms": 750, "seed_persona": seed}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: running.post("/v1/cognition/start", body), range(8)))
        assert {a["persona_count"] for a in answers} == {1}
        assert {a["started_at"] for a in answers} == {answers[0]["started_at"]}
        assert all(a["running"] and a["loop_interval_ms"] == 750 for a in answers)
        again = running.post("/v1/cognition/start", {"seed_persona": {**WHO, "persona_id": "second"}})
        assert again["persona_count"] == 1
        assert running.get("/v1/swarm/personas/first")["identity"]["swarm_id"] == "alpha"


@pytest.mark.fact("4.1")
@pytest.mark.fact("1.1")
@pytest.mark.parametrize("asked", [0, 10, 25, 100])
def test_intervals_below_the_floor_become_100_ms_also_while_running(lone: Swarm, asked: int) -> None:
    lone.post("/v1/cognition/start", {"loop_interval_ms": 500})
    assert lone.post("/v1/cognition/start", {"loop_interval_ms": asked})["loop_interval_ms"] == 100


@pytest.mark.fact("4.1")
def test_a_disabled_loop_refuses_to_start_and_everything_else_works() -> None:
    with swarm(settings={"ENABLED": "false"}) as running:
        answer = running.http("POST", "/v1/cognition/start")
        assert (answer.status, answer.json["detail"]) == (
            400, "Perpetual cognition is disabled. Set CODETETHER_COGNITION_ENABLED=true.",
        )  # fmt: skip
        assert (status(running)["enabled"], status(running)["running"]) == (False, False)
        create(running, "p")
        assert count(running, "p") == 0


@pytest.mark.fact("4.1")
@pytest.mark.fact("3.5")
@pytest.mark.timeout(180)
def test_desired_state_interval_counts_and_context_outlive_a_restart() -> None:
    first = Swarm(settings={"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "40"})
    try:
        first.start()
        eventually_sync(lambda: count(first) > 12, 30)
        first.post("/v1/cognition/start", {"loop_interval_ms": 150})
        first.post("/v1/cognition/stop", {"reason": "night"})
        stopped = count(first)
        assert first.stop() == 0
        again = Swarm(settings={"MAX_EVENTS": "40"}, data=first.data).start()
        try:
            assert not status(again)["running"], "AUTO_START applies only where no state is remembered"
            assert status(again)["loop_interval_ms"] == 150
            assert count(again) == stopped
            assert again.post("/v1/cognition/start")["running"]
            after = thought(again, "root-thinker", stopped + 1)
            assert after["payload"]["context_event_count"] == 8
            eventually_sync(lambda: count(again) >= stopped + 3, 30)
            assert again.stop() == 0
        finally:
            again.close()
        third = Swarm(settings={"MAX_EVENTS": "40"}, data=first.data)
        try:
            third.start()
            eventually_sync(lambda: status(third)["running"], 30)
            resumed = count(third)
            eventually_sync(lambda: count(third) > resumed, 30)
        finally:
            third.close()
    finally:
        first.close()


@pytest.mark.fact("4.1")
@pytest.mark.timeout(180)
def test_another_setting_of_the_interval_counts_after_a_restart_unless_a_request_has_chosen(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with swarm(settings={"LOOP_INTERVAL_MS": "300"}, data=data) as first:
        assert status(first)["loop_interval_ms"] == 300
        assert first.stop() == 0
    with swarm(settings={"LOOP_INTERVAL_MS": "60000", "AUTO_START": "false"}, data=data) as slower:
        eventually_sync(lambda: status(slower)["running"], 30, "what is remembered, not AUTO_START")
        assert status(slower)["loop_interval_ms"] == 60_000
        counted = count(slower)
        time.sleep(2)
        assert count(slower) <= counted + 1, "it thinks at the new interval"
        slower.post("/v1/cognition/start", {"loop_interval_ms": 200})
        assert slower.stop() == 0
    with swarm(settings={"LOOP_INTERVAL_MS": "60000"}, data=data) as third:
        assert status(third)["loop_interval_ms"] == 200
        counted = count(third)
        eventually_sync(lambda: count(third) >= counted + 3, 30)


@pytest.mark.fact("4.2")
def test_stop_announces_its_reason_also_when_the_loop_does_not_run(lone: Swarm) -> None:
    assert not lone.post("/v1/cognition/stop", {"reason": "pause"})["running"]
    lone.post("/v1/cognition/stop", {"reason": "again"})
    lone.post("/v1/cognition/stop")
    lone.post("/v1/cognition/stop", None)
    announced = [e for e in lone.events() if e["event_type"] == "check_result" and e["persona_id"] is None]
    assert [e["payload"] for e in announced] == [
        {"stopped": True, "reason": "pause"},
        {"stopped": True, "reason": "again"},
    ]
    assert {e["swarm_id"] for e in announced} == {None}


@pytest.mark.fact("4.2")
@pytest.mark.fact("3.5")
def test_after_stop_has_answered_no_thought_appears_and_the_stop_is_context_for_all(lone: Swarm) -> None:
    for n in range(10):
        create(lone, f"p{n}")
    eventually_sync(lambda: count(lone, "p9") > 2, 30)
    started = lone.post("/v1/cognition/stop", {"reason": "halt"})["started_at"]
    last = lone.get("/v1/cognition/events?limit=1")["last_sequence"]
    counts = {f"p{n}": count(lone, f"p{n}") for n in range(10)}
    time.sleep(0.5)  # several intervals: nothing may happen in them
    assert lone.get("/v1/cognition/events?limit=1")["last_sequence"] == last
    assert counts == {name: count(lone, name) for name in counts}
    assert status(lone)["started_at"] == started, "stop does not clear started_at"
    assert lone.post("/v1/cognition/start")["started_at"] > started, "a real start renews it"
    first = thought(lone, "p0", counts["p0"] + 1)
    # The stop's event is everybody's context.
    before = [e for e in lone.events() if e["sequence"] < first["sequence"]]
    own = sum(e["persona_id"] == "p0" for e in before)
    assert first["payload"]["context_event_count"] == min(own + 1, 8)


@pytest.mark.fact("4.2")
def test_a_thought_that_outlasts_the_grace_is_stored_as_withdrawn(model: Endpoint) -> None:
    released = threading.Event()
    model.reply = lambda _: "late" if released.wait(25) else 503
    with thinking_with(model) as running:
        eventually_sync(lambda: len(model.requests) >= 1, 30)
        began = time.monotonic()
        running.post("/v1/cognition/stop")
        assert 1.5 < time.monotonic() - began < 15
        (only,) = thoughts(running)
        assert (only["payload"]["source"], only["payload"]["error"]) == ("fallback", "withdrawn")
        released.set()
        time.sleep(1)  # the late original comes, and is refused
        assert len(thoughts(running)) == 1
        assert count(running) == 1


@pytest.mark.fact("4.2")
def test_work_that_never_reached_a_thinker_is_withdrawn_and_its_number_given_back() -> None:
    with swarm("--thinkers", "0", settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: status(running)["last_tick_at"] is not None, 30)
        assert not running.post("/v1/cognition/stop")["running"]
        assert count(running) == 0
        assert thoughts(running) == []


@pytest.mark.fact("4.3")
def test_status_counts_what_is_and_says_running_only_while_a_scheduler_ticks(lone: Swarm) -> None:
    import os
    import signal

    create(lone, "p")
    lone.post("/v1/swarm/personas/p/reap")
    now = eventually_sync(
        lambda: (
            (now := status(lone))["running"]
            and now["events_buffered"] > 8
            and now["snapshots_buffered"] >= 1
            and now
        ),
        30,
    )
    assert isinstance(now, dict)
    assert set(now) == {
        "enabled", "running", "loop_interval_ms", "started_at", "last_tick_at", "persona_count",
        "active_persona_count", "events_buffered", "snapshots_buffered",
        # beyond the reference
        "lag_ms", "ticked_persona_count", "not_ticked_because", "default_policy", "circuits", "phase",
    }  # fmt: skip
    assert (now["persona_count"], now["active_persona_count"]) == (2, 1)
    assert (now["ticked_persona_count"], now["not_ticked_because"]) == (1, None)
    scheduler = lone.pid("scheduler")
    os.kill(scheduler, signal.SIGSTOP)
    try:
        halted = status(lone)
        assert (halted["running"], halted["phase"]) == (False, "running")
        assert (halted["ticked_persona_count"], halted["not_ticked_because"]) == (0, "no scheduler answers")
    finally:
        os.kill(scheduler, signal.SIGCONT)
    eventually_sync(lambda: status(lone)["running"], 30)
