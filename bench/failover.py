"""How long personas pause when a process is killed with -9 under `perpetua up`, which starts it again.

    python -m bench.failover [--personas 40] [--interval-ms 100] [--seconds 6] [--runs 5] [--json]

No model. In each run every process of a swarm is killed once, one after the other. Of each persona the
longest time between two thoughts counts, by the times in their events, from a second before the kill; of
these the median, and the worst.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from datetime import datetime
from itertools import pairwise
from typing import Any

from bench.throughput import rows
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

KILLED = ("registry", "gateway", "compressor", "scheduler", "thinker", "nats")

_BEFORE_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=40)
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6.0, help="Looked at after each kill.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = []
    for number in range(options.runs):
        runs.append(measure(options.personas, options.interval_ms, options.seconds))
        said = ", ".join(f"{name} {pause['median, s']:.2f} s" for name, pause in runs[-1].items())
        print(f"run {number + 1}: {said}", file=sys.stderr, flush=True)
    medians = {
        name: {key: round(statistics.median(run[name][key] for run in runs), 2) for key in runs[0][name]}
        for name in KILLED
    }
    if options.json:
        print(json.dumps({"median": medians, "runs": runs}, indent=2))
        return
    print(f"{'killed':12} {'median of personas':>20} {'worst persona':>16}")
    for name, pause in medians.items():
        print(f"{name:12} {pause['median, s']:18.2f} s {pause['worst, s']:14.2f} s")


def measure(personas: int, interval_ms: int, seconds: float) -> dict[str, dict[str, float]]:
    """Bring a swarm up, kill each of its processes once, and return the pauses in seconds."""
    settings = {"THINKER_ENABLED": "false", "LOOP_INTERVAL_MS": str(interval_ms), "MAX_EVENTS": "200000"}
    with swarm("--quiet", settings=settings | {"AUTO_START": "false"}) as up:
        for row in rows(personas):
            up.post("/v1/swarm/personas", row)
        up.post("/v1/cognition/start")
        eventually_sync(lambda: _everybody_thought(up, 5), 60, "a warm swarm")
        return {name: _pauses(up, name, seconds) for name in KILLED}


def _everybody_thought(up: Swarm, count: int) -> bool:
    states: list[dict[str, Any]] = up.get("/v1/swarm/personas?limit=1000")["personas"]
    return all(state["thought_count"] >= count for state in states)


def _pauses(up: Swarm, service: str, seconds: float) -> dict[str, float]:
    killed_at = time.time()
    os.kill(up.pid(service), signal.SIGKILL)
    time.sleep(seconds)
    eventually_sync(lambda: up.http("GET", "/v1/cognition/status").status == 200, 30, "the gateway")
    thought: dict[str, list[float]] = {}
    for event in up.events():
        at = datetime.fromisoformat(event["timestamp"]).timestamp()
        if "thinking" in event["payload"] and at >= killed_at - _BEFORE_S:
            thought.setdefault(event["persona_id"], []).append(at)
    longest = [max(b - a for a, b in pairwise(times)) for times in thought.values()]
    return {"median, s": statistics.median(longest), "worst, s": max(longest)}


if __name__ == "__main__":
    main()
