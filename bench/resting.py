"""A large swarm at rest: start-up, what looks cost, and how soon a message wakes one of it [A11].

    python -m bench.resting [--personas 100000] [--interval-ms 60000] [--seconds 60] [--messages 25] [--json]

Real processes under `perpetua up` with adaptive cadence. Personas think their first cycle without a model;
then they rest, and look 32 intervals of 0.6 apart. At the end the scheduler is killed, to see how soon it
looks again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.subscriber import Subscriber
from bench.swarms import Watch, percentile
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

CYCLE = 4
_PLENTY = "4000000000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=100_000)
    parser.add_argument("--interval-ms", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--messages", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.personas, options.interval_ms, options.seconds, options.messages)
    if options.json:
        return print(json.dumps(found, indent=2))
    for name, value in found.items():
        print(f"{name:44} {value}")
    return None


def measure(personas: int, interval_ms: int, seconds: float, messages: int) -> dict[str, Any]:
    """Make them, let them come to rest, and look at what that costs."""
    settings = {
        "CADENCE": "adaptive",
        "LOOP_INTERVAL_MS": "1000",
        "AUTO_START": "false",
        "THINKER_ENABLED": "false",
        "TOKEN_CREDITS_PER_MINUTE": _PLENTY,
        "CPU_CREDITS_PER_MINUTE": _PLENTY,
        "MAX_EVENTS": "20000",
    }
    with swarm("--quiet", settings=settings, own={"CAPTURE": "off"}) as up:
        _import(up, personas)
        found: dict[str, Any] = {"personas": personas, "interval ms": interval_ms}
        found |= _said(_to_rest(up, personas))
        up.post("/v1/cognition/start", {"loop_interval_ms": interval_ms})
        found |= _said(_rest(up, seconds))
        found |= _said(_wake(up, personas, messages))
        return found | _restart(up, personas)


def _import(up: Swarm, personas: int) -> None:
    _say(f"importing {personas}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "personas.jsonl"
        with file.open("w") as lines:
            for number in range(personas):
                name = f"p-{number}"
                row = {"persona_id": name, "name": name, "role": "critic", "charter": "Look far. " * 10}
                lines.write(json.dumps(row | {"policy": {"share_memory": False}}) + "\n")
        done = up.cli("personas", "import", str(file), "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def _to_rest(up: Swarm, personas: int) -> dict[str, Any]:
    """Start the loop, and wait until everybody has thought a cycle."""
    _say("the first cycle")
    watch, began = Watch(up), time.perf_counter()
    up.post("/v1/cognition/start", {"loop_interval_ms": 1000})
    eventually_sync(lambda: _thoughts(watch) >= CYCLE * personas, 400, "a swarm at rest")
    took = time.perf_counter() - began
    time.sleep(5)
    return {"first cycle of everybody s": round(took, 1), "its thoughts/s": round(CYCLE * personas / took)}


def _rest(up: Swarm, seconds: float) -> dict[str, Any]:
    _say("resting")
    time.sleep(3)
    watch = Watch(up)
    looks, thoughts = watch.total("scheduler", "perpetua_looks_total"), _thoughts(watch)
    time.sleep(seconds)
    used = watch.used()
    shown = (
        "tick lag p50 s, at most",
        "tick lag p99 s, at most",
        "cores by service",
        "MiB resident by service",
    )
    return {
        "looks/s": round((watch.total("scheduler", "perpetua_looks_total") - looks) / used["seconds"], 1),
        "thoughts while resting": _thoughts(watch) - thoughts,
        **{name: used[name] for name in shown},
    }


def _wake(up: Swarm, personas: int, messages: int) -> dict[str, Any]:
    """Send to one after the other, and wait for the thought that has the message in it."""
    _say("waking")
    took = []
    with (seen := Handled(up.nats_url)):
        time.sleep(1)
        for number in range(messages):
            name = f"p-{number * personas // messages}"
            sent_at = time.time()
            up.post(f"/v1/swarm/personas/{name}/inbox", {"content": "Is it calm?"})
            eventually_sync(lambda name=name: name in seen.at, 20, f"a thought of {name}")  # type: ignore[misc]
            took.append(1000 * (seen.at[name] - sent_at))
    return {
        "message to its thought ms, p50": round(percentile(took, 0.5), 1),
        "message to its thought ms, slowest": round(max(took), 1),
    }


def _restart(up: Swarm, personas: int) -> dict[str, Any]:
    """Kill the scheduler, and wait until it has looked at everybody again."""
    _say("restarting the scheduler")
    os.kill(up.pid("scheduler"), signal.SIGKILL)
    killed, began = datetime.now(UTC), time.perf_counter()

    def ticks() -> bool:
        answer = up.http("GET", "/v1/cognition/status")
        at = answer.json.get("last_tick_at") if answer.status == 200 else None
        return bool(at and datetime.fromisoformat(at) > killed and answer.json["running"])

    eventually_sync(ticks, 120, "looking again")
    again = time.perf_counter() - began
    watch = Watch(up)
    eventually_sync(
        lambda: watch.total("scheduler", "perpetua_looks_total") >= personas, 240, "everybody looked again"
    )
    return {
        "scheduler killed to looking s": round(again, 2),
        "scheduler killed to everybody's look s": round(time.perf_counter() - began, 2),
    }


class Handled(Subscriber):
    """Notes when a message of each persona was first handled, or returned since no model is asked."""

    def __init__(self, nats_url: str) -> None:
        super().__init__(nats_url)
        self.at: dict[str, float] = {}

    def note(self, event: dict[str, Any], at: float) -> None:
        if event["event_type"] == "thought_generated":
            self.at.setdefault(event["persona_id"], at)


def _thoughts(watch: Watch) -> int:
    return round(watch.total("scheduler", "perpetua_thoughts_stored_total"))


def _said(found: dict[str, Any]) -> dict[str, Any]:
    _say(json.dumps(found))
    return found


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
