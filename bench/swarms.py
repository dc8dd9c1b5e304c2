"""What benches of large swarms share: personas, a load of creations, and what the processes use."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.metrics import histogram, metric, quantile
from tests.support.swarm import Swarm

FIVE = ("registry", "scheduler", "thinker", "compressor", "gateway")
_ARMS = 99


def rows(count: int, prefix: str = "p") -> Iterator[dict[str, Any]]:
    """Yield families of a hundred personas, a root and its children, with charters of 100 characters."""
    for number in range(count):
        family, place = divmod(number, _ARMS + 1)
        name = f"{prefix}-{family:05}-{place:02}"
        row: dict[str, Any] = {
            "persona_id": name,
            "name": f"Persona {number}",
            "role": "critic",
            "charter": "Look far. " * 10,
        }
        if place:
            yield row | {"parent_id": f"{prefix}-{family:05}-00"}
        else:
            yield row | {"swarm_id": "bench", "policy": {"max_branching_factor": _ARMS}}


async def create(url: str, personas: list[dict[str, Any]], clients: int) -> float:
    """Create personas, roots first, by so many clients at once; return the seconds it took.

    Each client has one connection and one request under way. Raises where one is not created.
    """
    waiting = sorted(personas, key=lambda row: "parent_id" in row)
    where = urlsplit(url)
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while waiting:
            body = json.dumps(waiting.pop()).encode()
            writer.write(
                b"POST /v1/swarm/personas HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
        writer.close()

    waiting.reverse()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began


def say_run(began: float, what: str, number: int, of: int) -> None:
    """Say on stderr that a run begins, the first being 0, and how many minutes have passed since `began`."""
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:3.0f} min: {what}, run {number + 1} of {of}", file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of a figure over runs, its least and its most."""
    return statistics.median(values), min(values), max(values)


class Watch:
    """What each process of a swarm uses from now on."""

    def __init__(self, up: Swarm) -> None:
        found = up.ps()
        self.ports = {row["service"]: int(row["metrics_port"]) for row in found if row.get("metrics_port")}
        self.processes = {row["service"]: psutil.Process(int(row["pid"])) for row in found}
        self._began = time.perf_counter()
        self._busy = {name: processor_s(one) for name, one in self.processes.items()}
        self._machine = _machine()
        self._lag = self.buckets("scheduler", "perpetua_tick_lag_seconds")
        self._stored = self.total("scheduler", "perpetua_thoughts_stored_total")

    def total(self, service: str, name: str) -> float:
        """Return a metric's value, summed over its labels."""
        return metric(self.ports[service], name)

    def buckets(self, service: str, name: str) -> dict[float, float]:
        """Return a histogram's cumulative counts by bound."""
        return histogram(self.ports[service], name)

    def spent(self) -> dict[str, float]:
        """Return the processor time that each process has used since this was made, in seconds."""
        return {name: processor_s(one) - self._busy[name] for name, one in self.processes.items()}

    def used(self) -> dict[str, Any]:
        """Return what was used since this was made: cores by service, thoughts, tick lag, and memory now."""
        elapsed = time.perf_counter() - self._began
        cores = {name: seconds / elapsed for name, seconds in self.spent().items()}
        lag = self.buckets("scheduler", "perpetua_tick_lag_seconds")
        counts = {bound: value - self._lag.get(bound, 0.0) for bound, value in lag.items()}
        stored = self.total("scheduler", "perpetua_thoughts_stored_total") - self._stored
        memory = {name: one.memory_full_info() for name, one in self.processes.items() if name != "up"}
        return {
            "seconds": round(elapsed, 1),
            "thoughts/s": round(stored / elapsed, 1),
            "tick lag p50 s, at most": quantile(counts, 0.5),
            "tick lag p99 s, at most": quantile(counts, 0.99),
            "cores, five services": round(sum(cores[name] for name in FIVE), 3),
            "cores, broker": round(cores.get("nats", 0.0), 3),
            "cores, whole machine": round((_machine() - self._machine) / elapsed, 3),
            "MiB resident, five services": round(sum(memory[name].rss for name in FIVE) / 2**20),
            "MiB proportional, five services": round(sum(memory[name].pss for name in FIVE) / 2**20),
            "MiB resident, broker": round(memory["nats"].rss / 2**20) if "nats" in memory else None,
            "cores by service": {name: round(value, 3) for name, value in cores.items()},
            "MiB resident by service": {name: round(one.rss / 2**20) for name, one in memory.items()},
        }


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def processor_s(process: psutil.Process) -> float:
    """Return the processor time of a process, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _machine() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
