"""A large swarm on this machine: creation, import, ticking, memory, status, lineage, restart.

    python -m bench.scale [--personas 100000] [--interval-ms 60000] [--rounds 6] [--seconds 60] [--json]

`--rounds` thoughts a persona are thought first, at a short interval, so that every persona's context is full
(six are enough) and memory is what it is after an hour. Nothing is measured on a quiet machine unless the
reader sees to it: `cores, whole machine` says what everybody used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.swarms import Watch, create, percentile, rows
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

_CLIENTS = 32
_CREATED = 6000
_ASKED = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=100_000)
    parser.add_argument("--interval-ms", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--created", type=int, default=_CREATED, help="How many are created one by one.")
    parser.add_argument("--no-restart", action="store_true", help="Leave the scheduler's restart out.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(
        options.personas,
        options.interval_ms,
        rounds=options.rounds,
        seconds=options.seconds,
        created=options.created,
        restart=not options.no_restart,
    )
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:44} {value}")


def measure(
    personas: int,
    interval_ms: int,
    *,
    rounds: int = 6,
    seconds: float = 60.0,
    created: int = _CREATED,
    restart: bool = True,
) -> dict[str, Any]:
    """Bring a swarm up, fill it, let it think, and ask it."""
    settings = {"AUTO_START": "false", "THINKER_ENABLED": "false"}
    with swarm("--quiet", settings=settings) as up:
        found: dict[str, Any] = {"personas": personas, "interval ms": interval_ms}
        if created:
            found |= _create(up, created)
        found |= _import(up, personas - created)
        _warm(up, personas, rounds)
        _say("ticking")
        up.post("/v1/cognition/start", {"loop_interval_ms": interval_ms})
        time.sleep(5)
        watch = Watch(up)
        found |= _ask(up, seconds)
        found |= watch.used()
        if restart:
            found |= _restart(up)
    return found


def _create(up: Swarm, count: int) -> dict[str, Any]:
    """Create personas one by one."""
    _say(f"creating {count}")
    watch = Watch(up)
    took = asyncio.run(create(up.url, list(rows(count, "api")), _CLIENTS))
    spent = {name: round(1e6 * seconds / count) for name, seconds in watch.spent().items() if name != "up"}
    return {f"created/s by {_CLIENTS} clients": round(count / took), "µs a creation, by service": spent}


def _import(up: Swarm, count: int) -> dict[str, Any]:
    """Import personas with the command line, twice."""
    _say(f"importing {count}")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "personas.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(count, "imp")))
        for name, column in (("imported/s", "created"), ("imported again/s", "existing")):
            began = time.perf_counter()
            done = up.cli("personas", "import", str(file), "--json")
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
            assert json.loads(done.stdout)[column] == count
            found[name] = round(count / (time.perf_counter() - began))
    return found


def _warm(up: Swarm, personas: int, rounds: int) -> None:
    """Let everybody think so many thoughts."""
    if not rounds:
        return
    _say(f"{rounds} thoughts each")
    up.post("/v1/cognition/start", {"loop_interval_ms": max(personas // 5, 500)})
    watch = Watch(up)
    stored = "perpetua_thoughts_stored_total"
    eventually_sync(lambda: watch.total("scheduler", stored) >= rounds * personas, 900, "a warm swarm")


def _ask(up: Swarm, seconds: float) -> dict[str, Any]:
    """Ask for the status, spread over the time, and for the whole lineage now and then."""
    status: list[float] = []
    lineage: list[float] = []
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        status.append(_timed(lambda: up.get("/v1/cognition/status")))
        if len(lineage) < 5 and len(status) % (_ASKED // 5) == _ASKED // 10:
            lineage.append(_timed(lambda: up.http("GET", "/v1/swarm/lineage")))
        time.sleep(min(seconds / _ASKED, max(left, 0)))
    return {
        "status p50 ms": round(1000 * percentile(status, 0.5), 1),
        "status p99 ms": round(1000 * percentile(status, 0.99), 1),
        "status asked": len(status),
        "lineage median s": round(percentile(lineage, 0.5), 2) if lineage else None,
        "lineage slowest s": round(max(lineage), 2) if lineage else None,
    }


def _restart(up: Swarm) -> dict[str, Any]:
    """Kill the scheduler and wait until it ticks again."""
    _say("restarting the scheduler")
    os.kill(up.pid("scheduler"), signal.SIGKILL)
    killed, began = datetime.now(UTC), time.perf_counter()

    def ticks() -> bool:
        status = up.get("/v1/cognition/status")
        at = status["last_tick_at"]
        return bool(status["running"] and at and datetime.fromisoformat(at) > killed)

    eventually_sync(ticks, 120, "ticking again")
    again = time.perf_counter() - began
    return {"scheduler killed to ticking s": round(again, 2)}


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
