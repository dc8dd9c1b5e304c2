"""Personas with a life, measured: what rest costs, how soon a message is thought of, and under what load.

    python -m bench.life [--personas 200] [--minutes 10] [--seconds 60] [--repeat 1]
                         [--only rest,urgent,twice] [--json]

Real processes under `perpetua up` with adaptive cadence, and a stand-in for an endpoint.
- `rest`: nobody has anything new. Model calls and processor time in so many minutes [A11], in all and of each
  process, then from a message to its request at the endpoint.
- `urgent`: low-priority messages keep the endpoint 95 % busy, each by the cycle of four thoughts that it
  begins. A message of priority 0.9 to its being handled, the thought's own time included [A12].
- `twice`: twice as many messages as thoughts can take up, ten at a time, of several priorities, to a fifth of
  the personas; each to its being handled, by priority, and until nothing waits any more [A13].

With `--repeat` each figure is the median of so many runs, with the least and the most of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from bench.standin import count, standin
from bench.subscriber import Subscriber
from bench.swarms import create, percentile, processor_s
from libs.contracts.limits import ITEMS_A_THOUGHT
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

BARS = {
    "model calls while resting": 0,
    "cores while resting": 0.02,
    "message to its request ms, p50": 100,
    "urgent s, p99": 10,
    "twice the capacity s, p95 of all": 60,
}
_CLIENTS = 16
_LATENCY_MS = 500.0
_SLOTS = 32
_FEW_SLOTS = 4
_PRIORITIES = {0.1: 0.2, 0.3: 0.25, 0.5: 0.35, 0.7: 0.15, 0.9: 0.05}
"""What part of messages at twice the capacity has which priority."""

_CATCH_UP_S = 120.0
_CYCLE = 4
_WOKEN = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", default="rest,urgent,twice")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "rest": lambda: rest(options.personas, options.minutes),
        "urgent": lambda: urgent(options.personas, options.seconds),
        "twice": lambda: twice(options.personas // 5, options.seconds),
    }
    found: dict[str, Any] = {}
    for name in options.only.split(","):
        print(f"{name} …", file=sys.stderr, flush=True)
        found |= _medians([ways[name]() for _ in range(options.repeat)])
    if options.json:
        return print(json.dumps(found | {"bars": BARS}, indent=2))
    for key, value in found.items():
        if isinstance(value, dict):
            print(f"{key}\n{_columns(value)}")
        else:
            print(f"{key:44} {value!s:>10}   {f'bar {BARS[key]}' if key in BARS else ''}")
    return None


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one run as it is; of several each number's median, with the least and the most."""
    if len(runs) == 1:
        return runs[0]
    found: dict[str, Any] = {"runs": len(runs)}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if isinstance(value, dict):
            found[name] = {key: percentile([one[key] for one in values], 0.5) for key in value}
        else:
            found[name] = f"{percentile(values, 0.5)} ({min(values)} to {max(values)})"
    return found


def _columns(values: dict[str, float]) -> str:
    """Return a line of names above a line of what each of them is, a column each."""
    widths = {name: max(len(name), 6) + 3 for name in values}
    names = "".join(f"{name:>{width}}" for name, width in widths.items())
    return names + "\n" + "".join(f"{values[name]:>{width}.4f}" for name, width in widths.items())


class Handled(Subscriber):
    """Notes when each item is handled, or dropped."""

    def __init__(self, nats_url: str) -> None:
        super().__init__(nats_url)
        self.at: dict[str, float] = {}
        self.dropped = 0

    def note(self, event: dict[str, Any], at: float) -> None:
        if event["event_type"] == "inbox_handled":
            for item in event["payload"]["items"]:
                self.at.setdefault(item["id"], at)
        elif event["event_type"] == "inbox_dropped":
            self.dropped += 1


def rest(personas: int, minutes: float) -> dict[str, Any]:
    """Measure a swarm that has nothing to think about."""
    with standin() as url, _lively(url, 1) as up:
        _populate(up, personas)
        eventually_sync(lambda: _rested(up), 120, "everybody at rest")
        time.sleep(5)
        processes = _processes(up)
        calls, busy, began = count(url), _busy(processes), time.perf_counter()
        time.sleep(60 * minutes)
        ended, elapsed = _busy(processes), time.perf_counter() - began
        cores = {name: (ended[name] - busy[name]) / elapsed for name in processes}
        found = {
            "personas at rest": personas,
            "minutes": minutes,
            "model calls while resting": count(url) - calls,
            "cores while resting": round(sum(cores.values()), 4),
            "cores while resting, by process": {name: round(value, 4) for name, value in cores.items()},
        }
        return found | _woken(up, url, personas)


def _woken(up: Swarm, url: str, personas: int) -> dict[str, Any]:
    """Wake one after the other, once all rest again. A request is seen when it is answered, 50 ms later."""
    took = []
    for number in random.Random(7).sample(range(personas), min(personas, _WOKEN)):
        before, began = count(url), time.perf_counter()
        _send(up, f"p-{number}", "Is it calm?")
        while count(url) == before and time.perf_counter() - began < 10:
            time.sleep(0.001)
        took.append(1000 * (time.perf_counter() - began) - 50)
        eventually_sync(partial(_has_asked, url, before + _CYCLE), 30, "the cycle's end")
        time.sleep(0.3)
    return {
        "message to its request ms, p50": round(percentile(took, 0.5), 1),
        "message to its request ms, p99": round(percentile(took, 0.99), 1),
    }


def _has_asked(url: str, times: int) -> bool:
    return count(url) >= times


def urgent(personas: int, seconds: float) -> dict[str, Any]:
    """Measure urgent messages among so many others that thinkers are busy 95 % of the time."""
    capacity = 1000 / _LATENCY_MS * _SLOTS
    with (
        standin(_LATENCY_MS, slots=_SLOTS) as url,
        _lively(url, 2, _SLOTS) as up,
        (seen := Handled(up.nats_url)),
    ):
        _populate(up, personas)
        eventually_sync(lambda: _rested(up), 120, "everybody at rest")
        asyncio.run(_load(up, personas, 10.0, 0.95 * capacity / _CYCLE, urgent_a_second=0.0))
        calls, began = count(url), time.perf_counter()
        sent = asyncio.run(_load(up, personas, seconds, 0.95 * capacity / _CYCLE, urgent_a_second=5.0))
        busy = (count(url) - calls) / (time.perf_counter() - began) / capacity
        time.sleep(15)
        took = [seen.at[item] - at for item, at, priority in sent if priority > 0.8 and item in seen.at]
        wanted = sum(priority > 0.8 for _, _, priority in sent)
        return {
            "endpoint busy": round(busy, 3),
            "urgent messages": wanted,
            "urgent not handled": wanted - len(took),
            "urgent s, p50": round(percentile(took, 0.5), 2),
            "urgent s, p99": round(percentile(took, 0.99), 2),
        }


def twice(personas: int, seconds: float) -> dict[str, Any]:
    """Measure messages that come twice as fast as thoughts can take them up."""
    items_a_second = 1000 / _LATENCY_MS * _FEW_SLOTS * ITEMS_A_THOUGHT
    with (
        standin(_LATENCY_MS, slots=_FEW_SLOTS) as url,
        _lively(url, 2, _FEW_SLOTS) as up,
        (seen := Handled(up.nats_url)),
    ):
        _populate(up, personas)
        eventually_sync(lambda: _rested(up), 120, "everybody at rest")
        sent = asyncio.run(_load(up, personas, seconds, 2 * items_a_second, urgent_a_second=0.0, mixed=True))
        ended, deadline = time.time(), time.time() + _CATCH_UP_S
        while len(seen.at) + seen.dropped < len(sent) and time.time() < deadline:
            time.sleep(0.25)
        took = {item: seen.at[item] - at for item, at, _ in sent if item in seen.at}
        by_priority = {
            priority: [took[item] for item, _, its in sent if its == priority and item in took]
            for priority in _PRIORITIES
        }
        return {
            "messages at twice the capacity": len(sent),
            "of the rate that was aimed at": round(len(sent) / seconds / (2 * items_a_second), 2),
            "neither handled nor dropped": len(sent) - len(took) - seen.dropped,
            "dropped": seen.dropped,
            "last one handled s after the load": round(max(seen.at.values()) - ended, 1),
            "twice the capacity s, p50 of all": round(percentile(list(took.values()), 0.5), 2),
            "twice the capacity s, p95 of all": round(percentile(list(took.values()), 0.95), 2),
            **{
                f"twice the capacity s, p50 of {priority}": round(percentile(found, 0.5), 2)
                for priority, found in by_priority.items()
            },
            **{
                f"twice the capacity s, p95 of {priority}": round(percentile(found, 0.95), 2)
                for priority, found in by_priority.items()
            },
        }


async def _load(
    up: Swarm, personas: int, seconds: float, rate: float, urgent_a_second: float, *, mixed: bool = False
) -> list[tuple[str, float, float]]:
    """Send messages to personas at random; return each one's id, when it was accepted, and its priority."""
    rng, sent, began = random.Random(11), [], time.perf_counter()
    priorities, parts = list(_PRIORITIES), list(_PRIORITIES.values())
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(_CLIENTS)

    async def one(priority: float) -> None:
        name = f"p-{rng.randrange(personas)}"
        async with gate:
            item = await loop.run_in_executor(None, _send, up, name, "Something happened.", priority)
        sent.append((item, time.time(), priority))

    async with asyncio.TaskGroup() as tasks:
        total, urgents = 0, 0
        while (passed := time.perf_counter() - began) < seconds:
            for _ in range(int(passed * rate) - total):
                total += 1
                tasks.create_task(one(rng.choices(priorities, parts)[0] if mixed else 0.4))
            for _ in range(int(passed * urgent_a_second) - urgents):
                urgents += 1
                tasks.create_task(one(0.9))
            await asyncio.sleep(0.02)
    return sent


def _lively(url: str, thinkers: int, slots: int = 0) -> Any:
    """Bring a swarm up whose thinkers ask no more at once, together, than the endpoint thinks of at once."""
    settings = {
        "THINKER_BASE_URL": url,
        "THINKER_CONCURRENCY": str(slots // thinkers or 128),
        "CADENCE": "adaptive",
        "LOOP_INTERVAL_MS": "1000",
        "MAX_EVENTS": "50000",
        "TOKEN_CREDITS_PER_MINUTE": "4000000000",
        "CPU_CREDITS_PER_MINUTE": "4000000000",
        "THINKER_TIMEOUT_MS": "30000",
        "AUTO_START": "true",
    }
    return swarm("--quiet", "--thinkers", str(thinkers), settings=settings, own={"CAPTURE": "off"})


def _populate(up: Swarm, personas: int) -> None:
    rows = [
        {"persona_id": f"p-{n}", "name": f"p-{n}", "role": "critic", "charter": "Find what is wrong."}
        for n in range(personas)
    ]
    asyncio.run(create(up.url, rows, _CLIENTS))


def _rested(up: Swarm) -> bool:
    """Whether everybody has ended its first cycle."""
    states = up.get("/v1/swarm/personas?limit=1000")["personas"]
    return all(state["thought_count"] % 4 == 0 and state["thought_count"] for state in states)


def _send(up: Swarm, persona_id: str, content: str, priority: float | None = None) -> str:
    body = {"content": content} | ({"priority": priority} if priority is not None else {})
    return str(up.post(f"/v1/swarm/personas/{persona_id}/inbox", body)["item_id"])


def _processes(up: Swarm) -> dict[str, psutil.Process]:
    """Return `up` itself and all that it has started, the broker too."""
    assert up.process is not None
    started = {row["instance"]: psutil.Process(row["pid"]) for row in up.ps()}
    return started | {"up": psutil.Process(up.process.pid)}


def _busy(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Return the processor time that each process has used, in seconds; the system counts hundredths."""
    return {name: processor_s(process) for name, process in processes.items()}


if __name__ == "__main__":
    main()
