"""Thoughts a second without a model, every event durable: what the substrate itself can carry.

    python -m bench.throughput [--personas 4000] [--interval-ms 100] [--seconds 10] [--runs 5]
                               [--sync-always] [--json]

Real processes under `perpetua up`; counted is what stands in the event stream. In the same run the broker
alone is measured: messages of the events' size, published by one client and acknowledged. Processor time is
microseconds a thought, by process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import Any

import psutil
import uvloop

from bench.metrics import metric
from bench.swarms import create, processor_s
from libs.bus.connection import Bus, connect
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts.thoughts import EventType
from services.compressor.batches import MOST, UNDER_WAY, Batches
from tests.support.broker import Broker
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

BARS = {4_000: 20_000, 10_000: 15_000}
BAR_SYNC_ALWAYS = 18_000

_CLIENTS = 32
_WARM_ROUNDS = 4
_ALONE_S = 2.0
_ALONE_STREAM = "BENCH"
_ALONE_AT_ONCE = 1_000
_ALONE_DATA = b"x" * 800
_BESIDE_THOUGHTS = (EventType.CHECK_RESULT, EventType.PROPOSAL_CREATED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=4_000)
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sync-always", action="store_true", help="The broker writes through to the disk.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = []
    for number in range(options.runs):
        found = measure(options.personas, options.interval_ms, options.seconds, options.sync_always)
        runs.append(found)
        print(f"run {number + 1}: {found['thoughts/s']:.0f} thoughts/s", file=sys.stderr, flush=True)
    medians = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    bar = BAR_SYNC_ALWAYS if options.sync_always else BARS.get(options.personas)
    if options.json:
        print(json.dumps({"bar": bar, "median": medians, "runs": runs}, indent=2))
        return
    for key, value in medians.items():
        print(f"{key:48} {value:12.2f}")
    print(f"{'bar, thoughts/s':48} {bar or 'none'}")


def measure(personas: int, interval_ms: int, seconds: float, sync_always: bool = False) -> dict[str, float]:
    """Bring a swarm up, let it tick, and return what it did a second."""
    settings = {
        "THINKER_ENABLED": "false",
        "LOOP_INTERVAL_MS": str(interval_ms),
        "MAX_EVENTS": "100000",
        "AUTO_START": "false",
    }
    own = {"SYNC_ALWAYS": "true"} if sync_always else {}
    other = Broker(sync_always=sync_always)  # the swarm's own lets nobody but its admin make streams
    try:
        alone = uvloop.run(broker_alone(other.url, in_batches=sync_always))
    finally:
        other.close()
    with swarm("--quiet", settings=settings, own=own) as up:
        uvloop.run(create(up.url, rows(personas), _CLIENTS))
        up.post("/v1/cognition/start")
        found = watch(up, personas, seconds)
    return {"broker alone, messages/s": alone, "share of the broker": found["events/s"] / alone} | found


async def broker_alone(url: str, *, in_batches: bool) -> float:
    """Return how many messages a second one client can publish to a file stream, acknowledged.

    A broker that flushes each write gets them as the compressor sends them: in atomic batches.
    """
    async with connect(url, "bench", NoTelemetry()) as bus:
        config = {"name": _ALONE_STREAM, "subjects": ["bench.>"], "storage": "file", "max_msgs": 100_000}
        await bus.api(f"STREAM.CREATE.{_ALONE_STREAM}", config | {"allow_atomic": in_batches})
        publish = _in_batches if in_batches else _one_by_one
        sent, began = 0, time.perf_counter()
        while time.perf_counter() - began < _ALONE_S:
            sent = await publish(bus, sent)
        return sent / (time.perf_counter() - began)


async def _one_by_one(bus: Bus, sent: int) -> int:
    futures = [await bus.publisher.send(f"bench.{n % 64}", _ALONE_DATA) for n in range(_ALONE_AT_ONCE)]
    await asyncio.gather(*futures)
    return sent + _ALONE_AT_ONCE


async def _in_batches(bus: Bus, sent: int) -> int:
    """Publish three full batches at once; `sent` is the stream's last sequence."""
    batches, many = Batches(bus), UNDER_WAY * MOST
    stored = batches.add([(f"bench.{n % 64}", _ALONE_DATA, "") for n in range(many)], sent)
    async with Background() as tasks:
        tasks.create_task(batches.run(), name="store")
        await stored
    return sent + many


def rows(personas: int) -> list[dict[str, Any]]:
    """Return personas as the API takes them, in ten swarms."""
    return [
        {
            "persona_id": f"p-{number}",
            "name": f"p-{number}",
            "role": "critic",
            "swarm_id": f"s-{number % 10}",
            "charter": "Find what is wrong.",
        }
        for number in range(personas)
    ]


def watch(up: Swarm, personas: int, seconds: float) -> dict[str, float]:
    """Warm up, then count for so long."""
    rows = [row for row in up.ps() if row["service"] != "up"]
    ports = {row["service"]: row["metrics_port"] for row in rows}
    processes = {row["service"]: psutil.Process(row["pid"]) for row in rows}
    eventually_sync(lambda: _committed(ports) > _WARM_ROUNDS * personas, 60, "a warm swarm")
    before, began = _counts(ports), time.perf_counter()
    busy = {service: processor_s(process) for service, process in processes.items()}
    time.sleep(seconds)
    after, elapsed = _counts(ports), time.perf_counter() - began
    spent = {service: processor_s(process) - busy[service] for service, process in processes.items()}
    did = {key: after[key] - before[key] for key in after}
    thoughts = did["thoughts"]
    found = {
        "thoughts/s": thoughts / elapsed,
        "committed, thoughts/s": did["committed"] / elapsed,
        "events/s": did["events"] / elapsed,
        "tick lag, mean ms": 1000 * did["lag_sum"] / max(did["lag_count"], 1),
        "processors busy": sum(spent.values()) / elapsed,
    }
    for service, cpu in spent.items():
        found[f"µs a thought, {service}"] = cpu / max(thoughts, 1) * 1e6
        found[f"MiB, {service}"] = processes[service].memory_info().rss / 2**20
    return found


def _committed(ports: dict[str, int]) -> float:
    return metric(ports["scheduler"], "perpetua_thoughts_stored_total")


def _counts(ports: dict[str, int]) -> dict[str, float]:
    events = "perpetua_events_published_total"
    lag = "perpetua_tick_lag_seconds"
    besides = sum(metric(ports["compressor"], events, event_type=name) for name in _BESIDE_THOUGHTS)
    published = metric(ports["compressor"], events)
    return {
        "committed": _committed(ports),
        "events": published,
        "thoughts": published - besides,
        "lag_sum": metric(ports["scheduler"], f"{lag}_sum"),
        "lag_count": metric(ports["scheduler"], f"{lag}_count"),
    }


if __name__ == "__main__":
    main()
