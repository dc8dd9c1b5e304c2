"""An endpoint with a latency: the whole system against a loop that asks it once after another.

    python -m bench.endpoint [--personas 128] [--latency-ms 50] [--interval-ms 100] [--seconds 15] [--json]

In one run: a stand-in for a model server in a process of its own; first the same client code asks it in
sequence; then `perpetua up` thinks with it, real processes, every thought durable, and what the scheduler has
stored is counted. The interval allows `personas / interval` thoughts a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
import uvloop

from bench.metrics import metric
from bench.standin import standin
from bench.swarms import processor_s
from libs.contracts.work import ContextLine, WorkItem
from libs.settings.cognition import PREFIX, cognition_reader, read_cognition
from services.thinker.prompt import build
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

BAR = 55.0
_STEPS = {
    "queue_wait": "scheduler",
    "inference": "thinker",
    "settle": "thinker",
    "tick_to_stored": "scheduler",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=128)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--thinkers", type=int, default=1)
    parser.add_argument("--capture", default="", help="PERPETUA_CAPTURE of the swarm.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(
        personas=options.personas,
        latency_ms=options.latency_ms,
        interval_ms=options.interval_ms,
        seconds=options.seconds,
        thinkers=options.thinkers,
        capture=options.capture,
    )
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        print(f"{key:44} {value:10.2f}" if isinstance(value, float) else f"{key:44} {value}")


def measure(
    *,
    personas: int = 128,
    latency_ms: float = 50.0,
    interval_ms: int = 100,
    seconds: float = 15.0,
    thinkers: int = 1,
    capture: str = "",
) -> dict[str, Any]:
    """Ask in sequence, then let the system think, and compare."""
    with standin(latency_ms) as url:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sequential = runner.run(_sequential(url, personas, min(seconds, 5.0)))
        settings = {
            "THINKER_BASE_URL": url,
            "LOOP_INTERVAL_MS": str(interval_ms),
            "MAX_EVENTS": "20000",
            "AUTO_START": "false",
        }
        with swarm("--quiet", "--thinkers", str(thinkers), settings=settings, own={"CAPTURE": capture}) as up:
            system = _whole_system(up, personas, seconds)
    ratio = system["thoughts/s, whole system"] / sequential
    return {
        "thoughts/s, one after another": round(sequential, 2),
        **system,
        "thoughts/s that the interval allows": personas * 1000 / interval_ms,
        "ratio": round(ratio, 2),
        "bar": BAR,
    }


async def _sequential(url: str, personas: int, seconds: float) -> float:
    """Return thoughts a second of the thinker's own client, asked one prompt at a time."""
    from services.thinker.backends.openai_compat import OpenAICompat

    env = {f"{PREFIX}THINKER_BASE_URL": url}
    backend = OpenAICompat(read_cognition(cognition_reader(env)).thinker, "it is measured")
    thoughts = 0
    began = time.perf_counter()
    for item in _items(personas):
        answer = await backend.answer(build(item))
        assert answer.text, answer
        thoughts += 1
        if time.perf_counter() - began > seconds:
            break
    elapsed = time.perf_counter() - began
    await backend.close()
    return thoughts / elapsed


def _items(personas: int) -> Iterator[WorkItem]:
    """Yield work like the scheduler's, for ever."""
    now = datetime.now(UTC)
    line = ContextLine("thought_generated", now.isoformat(), '{"thinking":"' + "x" * 200 + '"}')
    count = 0
    while True:
        name = f"p-{count % personas}"
        yield WorkItem(name, name, "critic", "Find what is wrong.", "bench", 8 + count, now, [line] * 8, 8)
        count += 1


def _whole_system(up: Swarm, personas: int, seconds: float) -> dict[str, Any]:
    for number in range(personas):
        body = {"persona_id": f"p-{number}", "name": f"p-{number}", "role": "critic", "swarm_id": "bench"}
        up.post("/v1/swarm/personas", body | {"charter": "Find what is wrong."})
    up.post("/v1/cognition/start")
    ports = {row["service"]: row["metrics_port"] for row in up.ps()}
    pids = {row["service"]: psutil.Process(row["pid"]) for row in up.ps()}
    eventually_sync(
        lambda: metric(ports["thinker"], "perpetua_thoughts_total") > 20 * personas, 60, "a warm swarm"
    )
    before, began = _counts(ports), time.perf_counter()
    busy = {service: processor_s(process) for service, process in pids.items()}
    machine, ours = _busy_cores(), _ours()
    time.sleep(seconds)
    after, elapsed = _counts(ports), time.perf_counter() - began
    others = (_busy_cores() - machine - (_ours() - ours)) / elapsed
    stored = after["stored"] - before["stored"]
    found: dict[str, Any] = {
        "thoughts/s, whole system": round(stored / elapsed, 2),
        "thoughts without a model": int(after["fallback"] - before["fallback"]),
        "ticks skipped": int(after["skipped"] - before["skipped"]),
        "captured": int(after["captured"] - before["captured"]),
        "cores that others used meanwhile": round(max(others, 0.0), 2),
    }
    for name in _STEPS:
        spent = after[f"{name}_sum"] - before[f"{name}_sum"]
        found[f"ms {name.replace('_', ' ')}, mean"] = round(
            spent / max(after[f"{name}_count"] - before[f"{name}_count"], 1) * 1000, 2
        )
    for service, process in pids.items():
        found[f"µs of processor time a thought, {service}"] = round(
            (processor_s(process) - busy[service]) / stored * 1e6, 1
        )
    return found


def _busy_cores() -> float:
    """Return the processor time that the machine has spent, in seconds."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _ours() -> float:
    """Return the processor time of this process and of all that it has started, which still live."""
    parent = psutil.Process()
    return sum(processor_s(process) for process in [parent, *parent.children(recursive=True)])


def _counts(ports: dict[str, int]) -> dict[str, float]:
    steps = {
        f"{name}_{part}": metric(ports[service], f"perpetua_{name}_seconds_{part}")
        for name, service in _STEPS.items()
        for part in ("sum", "count")
    }
    return steps | {
        "stored": metric(ports["scheduler"], "perpetua_thoughts_stored_total"),
        "skipped": metric(ports["scheduler"], "perpetua_ticks_skipped_total"),
        "fallback": metric(ports["thinker"], "perpetua_thoughts_total", source="fallback"),
        "captured": metric(ports["thinker"], "perpetua_captures_total", outcome="kept"),
    }


if __name__ == "__main__":
    main()
