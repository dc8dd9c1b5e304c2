"""Ten times more is due than can be thought: fair, bounded, seen, and over without a burst."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from statistics import mean

import psutil
import pytest

from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm
from tests.up.test_telemetry import value

PERSONAS = 100
INTERVAL_S = 0.1
AT_ONCE = 20
LATENCY_S = 0.2
"""So 20 at once think 100 thoughts a second at most, of 1 000 that are due."""

ROUNDS = 12
SETTINGS = {
    "LOOP_INTERVAL_MS": "100",
    "MAX_EVENTS": "100000",
    "THINKER_CONCURRENCY": str(AT_ONCE),
    "THINKER_TIMEOUT_MS": "60000",
}


def moments(running: Swarm) -> dict[str, list[float]]:
    """When each persona's thoughts were made."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in running.events():
        if "thinking" in event["payload"]:
            found[event["persona_id"]].append(datetime.fromisoformat(event["timestamp"]).timestamp())
    return found


def memory(running: Swarm) -> dict[str, int]:
    """Resident bytes of every process, the broker too."""
    return {row["instance"]: psutil.Process(row["pid"]).memory_info().rss for row in running.ps()}


def waits(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


@pytest.mark.long
@pytest.mark.fact("3.2")
@pytest.mark.timeout(300)
def test_ten_times_more_due_than_can_be_thought() -> None:
    with (
        endpoint() as model,
        swarm("--quiet", settings=SETTINGS | {"THINKER_BASE_URL": model.base_url}) as running,
    ):
        model.delay = LATENCY_S
        for number in range(1, PERSONAS):
            body = {"persona_id": f"p{number}", "name": "P", "role": "r", "charter": "c"}
            running.post("/v1/swarm/personas", body)
        eventually_sync(lambda: len(moments(running)) == PERSONAS, 60, "everybody's first thought")
        begun = memory(running)
        began = len(running.events())
        least = min(len(times) for times in moments(running).values())

        def all_rounds() -> bool:
            return min(len(times) for times in moments(running).values()) >= least + ROUNDS

        eventually_sync(all_rounds, 120, "rounds of thoughts")
        assert_seen(running)
        assert_fair(running, began)
        assert_bounded(begun, memory(running))
        assert value(running, "scheduler", "perpetua_thoughts_in_flight") <= PERSONAS
        model.delay = 0.0
        assert_no_burst(running)


def assert_seen(running: Swarm) -> None:
    """Thinking is about a second behind, and both status and metrics say so."""
    floor = PERSONAS * LATENCY_S / AT_ONCE / 2
    assert running.get("/v1/cognition/status")["lag_ms"] > 1000 * floor
    assert "lag_ms" in running.cli("status").stdout
    assert value(running, "scheduler", "perpetua_thoughts_behind_seconds") > floor
    assert value(running, "scheduler", "perpetua_ticks_skipped_total") > PERSONAS


def assert_fair(running: Swarm, began: int) -> None:
    """Nobody ever waits more than twice as long as all do on average: each single wait of each persona."""
    after = datetime.fromisoformat(running.events()[began]["timestamp"]).timestamp()
    own = {name: waits([t for t in times if t >= after]) for name, times in moments(running).items()}
    average = mean(wait for each in own.values() for wait in each)
    longest = {name: max(each) for name, each in own.items()}
    assert max(longest.values()) <= 2 * average, (average, longest)
    assert average >= 5 * INTERVAL_S, "no overload"


def assert_bounded(before: dict[str, int], after: dict[str, int]) -> None:
    grown = {name: (after[name] - before[name]) / 2**20 for name in before}
    assert max(grown.values()) < 64, grown


def assert_no_burst(running: Swarm) -> None:
    """Once thinking is quick again nobody makes up for what was left out: one thought an interval."""
    eventually_sync(lambda: running.get("/v1/cognition/status")["lag_ms"] < 500, 30, "nothing behind")
    first = running.get("/v1/cognition/events?limit=1")["last_sequence"]
    eventually_sync(
        lambda: running.get("/v1/cognition/events?limit=1")["last_sequence"] > first + 10 * PERSONAS, 60
    )
    ticks: dict[str, list[float]] = defaultdict(list)
    for event in running.events(after=first):
        if "thinking" in event["payload"]:
            ticks[event["persona_id"]].append(datetime.fromisoformat(event["timestamp"]).timestamp())
    for name, times in ticks.items():
        allowed = (times[-1] - times[0]) / INTERVAL_S + 3
        assert len(times) <= allowed, f"{name}: {len(times)} thoughts in {times[-1] - times[0]:.2f} s"
