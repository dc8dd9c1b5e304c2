"""From `perpetua up` to the first thought on SSE, and what the processes weigh.

    python -m bench.startup [--runs 5] [--json]

Each run has a fresh data folder; the first run, which warms the page cache, is not counted.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from libs.supervisor.broker import free_port

LIMIT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [measure() for _ in range(options.runs + 1)][1:]
    medians = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    if options.json:
        print(json.dumps({"median": medians, "runs": runs}, indent=2))
        return
    for key, value in medians.items():
        spread = sorted(run[key] for run in runs)
        print(f"{key:32} {value:8.3f}   ({spread[0]:.3f} to {spread[-1]:.3f})")


def measure() -> dict[str, float]:
    """One start: seconds to each milestone, then MiB of resident and of proportional memory."""
    with tempfile.TemporaryDirectory() as folder:
        port, nats = free_port("127.0.0.1"), free_port("127.0.0.1")
        command = [sys.executable, "-m", "libs.cli", "up", "--json", "--data-dir", folder]
        command += ["--gateway-port", str(port), "--nats-port", str(nats)]
        began = time.monotonic()
        up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = {"s until the gateway answers": _until_answering(port) - began}
            found["s until the first thought (SSE)"] = _until_thought(port) - began
            time.sleep(3.0)
            found |= {f"s until {name} is ready": at for name, at in _ready(Path(folder), began).items()}
            found |= _memory(up.pid)
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(30)
        return found


def _until_answering(port: int) -> float:
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/livez", timeout=1):
                return time.monotonic()
        except OSError:
            time.sleep(0.01)


def _until_thought(port: int) -> float:
    """The first thought on a stream opened as soon as the gateway answers, from the oldest event on."""
    with urlopen(f"http://127.0.0.1:{port}/v1/cognition/stream?after=0", timeout=LIMIT_S) as stream:
        for line in stream:
            if b'"thought_generated"' in line:
                return time.monotonic()
    raise RuntimeError("the stream ended without a thought")


def _ready(folder: Path, began: float) -> dict[str, float]:
    """When each process said that it is ready, from its log."""
    from datetime import datetime

    offset = time.time() - time.monotonic()
    found = {}
    for log in sorted((folder / "logs").glob("*-1.log")):
        for line in log.read_text().splitlines():
            record: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if record.get("event") == "ready":
                at = datetime.fromisoformat(record["timestamp"]).timestamp()
                found[log.stem.removesuffix("-1")] = at - offset - began
    return found


def _memory(pid: int) -> dict[str, float]:
    parent = psutil.Process(pid)
    everybody = [parent, *parent.children(recursive=True)]
    found = {"MiB resident, all": 0.0, "MiB proportional, all": 0.0}
    for process in everybody:
        full = process.memory_full_info()
        words = process.cmdline()
        name = next((w.removeprefix("services.") for w in words if w.startswith("services.")), process.name())
        name = "up" if process.pid == pid else name
        found[f"MiB resident, {name}"] = full.rss / 2**20
        found["MiB resident, all"] += full.rss / 2**20
        found["MiB proportional, all"] += full.pss / 2**20
    return found


if __name__ == "__main__":
    main()
