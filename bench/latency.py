"""What the substrate adds to a thought: from the time its tick is due to its event at a NATS subscriber.

    python -m bench.latency [--personas 100] [--interval-ms 2000] [--rounds 15] [--json]

No model. A subscriber notes when each thought's event arrives; the time at which its tick began is the
persona's `last_tick_at`, read between two ticks. How late ticks begin is added from the scheduler's
histogram: its mean to the median, and the bound that 99 of 100 ticks keep to the 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import datetime
from typing import Any

from bench.metrics import histogram, metric, quantile
from bench.subscriber import Subscriber
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

BAR_MS = {"p50": 3.0, "p99": 10.0}
_LAG = "perpetua_tick_lag_seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.personas, options.interval_ms, options.rounds)
    if options.json:
        print(json.dumps(found | {"bar": BAR_MS}, indent=2))
        return
    for key, value in found.items():
        print(f"{key:44} {value:10.2f}")
    print(f"{'bar, ms':44} p50 {BAR_MS['p50']:g}, p99 {BAR_MS['p99']:g}")


def measure(personas: int, interval_ms: int, rounds: int) -> dict[str, float]:
    """Bring a swarm up and return milliseconds."""
    settings = {
        "THINKER_ENABLED": "false",
        "LOOP_INTERVAL_MS": str(interval_ms),
        "MAX_EVENTS": "100000",
        "AUTO_START": "false",
    }
    with swarm("--quiet", settings=settings) as up, (arrivals := Arrivals(up.nats_url)):
        for number in range(personas):
            body = {"persona_id": f"p-{number}", "name": f"p-{number}", "role": "critic", "charter": "Look."}
            up.post("/v1/swarm/personas", body)
        up.post("/v1/cognition/start")
        eventually_sync(lambda: len(arrivals.at) > 2 * personas, 60, "everybody thinking twice")
        port = next(int(row["metrics_port"]) for row in up.ps() if row["service"] == "scheduler")
        before = histogram(port, _LAG)
        sum_before, count_before = metric(port, f"{_LAG}_sum"), metric(port, f"{_LAG}_count")
        took = [ms for _ in range(rounds) for ms in one_round(up, arrivals, interval_ms / 1000)]
        lag = (metric(port, f"{_LAG}_sum") - sum_before) / (metric(port, f"{_LAG}_count") - count_before)
        came = {bound: count - before[bound] for bound, count in histogram(port, _LAG).items()}
    lag_p99 = quantile(came, 0.99)
    assert lag_p99 is not None, "no tick came"
    took.sort()
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    return {
        "thoughts": float(len(took)),
        "tick begun to subscriber, ms, p50": p50,
        "tick begun to subscriber, ms, p99": p99,
        "tick due to begun, ms, mean": 1000 * lag,
        "tick due to begun, ms, p99 at most": 1000 * lag_p99,
        "tick due to subscriber, ms, p50": p50 + 1000 * lag,
        "tick due to subscriber, ms, p99 at most": p99 + 1000 * lag_p99,
    }


def one_round(up: Swarm, arrivals: Arrivals, interval: float) -> list[float]:
    """Wait until a round of ticks is through, and return the milliseconds that each of its thoughts took."""
    time.sleep(interval)
    states: list[dict[str, Any]] = up.get("/v1/swarm/personas?limit=1000")["personas"]
    took = []
    for state in states:
        arrived = arrivals.at.get((state["identity"]["id"], state["thought_count"]))
        if arrived is not None and state["last_tick_at"] is not None:
            begun = datetime.fromisoformat(state["last_tick_at"]).timestamp()
            if arrived >= begun:  # else the next tick has begun and its thought is under way
                took.append(1000 * (arrived - begun))
    return took


class Arrivals(Subscriber):
    """Notes when a subscriber sees each thought."""

    def __init__(self, nats_url: str) -> None:
        super().__init__(nats_url)
        self.at: dict[tuple[str, int], float] = {}

    def note(self, event: dict[str, Any], at: float) -> None:
        if "thinking" in event["payload"]:
            self.at[event["persona_id"], event["payload"]["thought_count"]] = at


if __name__ == "__main__":
    main()
