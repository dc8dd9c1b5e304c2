"""A long run with the tiny model: does the thinker's memory stay flat, is every thought a model's, is any
work given out twice?

    python -m bench.soak [--minutes 30] [--personas 200] [--interval-ms 10000] [--max-tokens 16] [--json]

Memory is resident MiB, sampled every five seconds; the first third of the run warms up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from typing import Any

import nats
import psutil
from nats.js.api import ConsumerInfo

from bench.metrics import metric
from bench.subscriber import Subscriber
from libs.contracts import streams
from tests.support.swarm import Swarm, swarm

EVERY_S = 5.0
SAY_EVERY_S = 60.0
SERVICES = ("thinker", "scheduler", "compressor", "registry", "gateway", "nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--personas", type=int, default=200)
    parser.add_argument("--interval-ms", type=int, default=10_000)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = {"LOOP_INTERVAL_MS": str(options.interval_ms), "THINKER_MAX_TOKENS": str(options.max_tokens)}
    with swarm("--quiet", "--model", "tiny", settings=settings) as up:
        populate(up, options.personas)
        found = soak(up, 60 * options.minutes)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:44} {value}")


def populate(up: Swarm, personas: int) -> None:
    for number in range(1, personas):
        up.post("/v1/swarm/personas", {"persona_id": f"p{number}", "name": "P", "role": "r", "charter": "c"})


def soak(up: Swarm, seconds: float) -> dict[str, Any]:
    """Let it think; return memory by thirds and what went wrong."""
    with (failures := Failures(up.nats_url)):
        found = watch(up, seconds)
    return found | {"reasons of fallbacks": dict(failures.reasons)}


def watch(up: Swarm, seconds: float) -> dict[str, Any]:
    """Sample memory for so long; return it by thirds, and what the processes counted."""
    pids = {row["service"]: int(row["pid"]) for row in up.ps()}
    processes = {service: psutil.Process(pids[service]) for service in SERVICES}
    samples: dict[str, list[float]] = {service: [] for service in SERVICES}
    began = said = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        for service, process in processes.items():
            samples[service].append(process.memory_info().rss / 2**20)
        if now - said > SAY_EVERY_S:
            said = now
            left = round((seconds - (now - began)) / 60)
            print(f"{left} min left, thinker {samples['thinker'][-1]:.0f} MiB", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)
    return memory(samples) | thoughts(up, pids) | {"work delivered again": redelivered(up)}


class Failures(Subscriber):
    """Counts the errors of fallback thoughts, as a subscriber sees them."""

    def __init__(self, nats_url: str) -> None:
        super().__init__(nats_url)
        self.reasons: Counter[str] = Counter()

    def note(self, event: dict[str, Any], at: float) -> None:
        payload = event["payload"]
        if payload.get("source") == "fallback" and "latency_ms" in payload:
            self.reasons[str(payload.get("error"))] += 1


def memory(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Mean MiB of the middle and of the last third, and the growth between them in per cent."""
    found: dict[str, Any] = {}
    for service, values in samples.items():
        third = len(values) // 3
        middle, last = statistics.mean(values[third : 2 * third]), statistics.mean(values[2 * third :])
        growth = 100 * (last / middle - 1)
        found[f"{service}: MiB, middle and last third, growth"] = f"{middle:.1f} {last:.1f} {growth:+.1f} %"
    return found


def thoughts(up: Swarm, pids: dict[str, int]) -> dict[str, Any]:
    """Thoughts by source since the start, and whether any process was started again."""
    rows = up.ps()
    port = next(int(row["metrics_port"]) for row in rows if row["service"] == "thinker")
    now = {row["service"]: int(row["pid"]) for row in rows}
    return {
        "thoughts by the model": int(metric(port, "perpetua_thoughts_total", source="model")),
        "declared fallbacks": int(metric(port, "perpetua_thoughts_total", source="fallback")),
        "processes started again": sum(now[service] != pid for service, pid in pids.items()),
    }


def redelivered(up: Swarm) -> int:
    """How many times a message of the work queue was given out again since the start."""

    async def ask() -> ConsumerInfo:
        client = await nats.connect(up.nats_url, **up.nats_as("admin"))
        try:
            found: ConsumerInfo = await client.jetstream().consumer_info(streams.THINK, streams.THINKERS)
            return found
        finally:
            await client.close()

    info = asyncio.run(ask())
    assert info.delivered is not None
    return int(info.delivered.consumer_seq) - int(info.delivered.stream_seq)


if __name__ == "__main__":
    main()
