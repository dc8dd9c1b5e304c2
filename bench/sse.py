"""Many clients of the event stream: how late they get an event, and whether one that reads nothing hurts.

    python -m bench.sse [--clients 500] [--events 100] [--seconds 15] [--runs 5] [--json]

Events are published straight into the event stream, as the compressor does, each with the time in it; nobody
thinks. The clients are in a process of their own, over raw sockets. How late: from before the publish until
the client has it. One more client reads nothing all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import nats

from bench.swarms import Watch, percentile
from libs.contracts import streams, subjects
from tests.support.swarm import Swarm, swarm

_REST = "x" * 400
_GRACE_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--events", type=int, default=100, help="Events a second.")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with swarm("--quiet", settings={"AUTO_START": "false", "THINKER_ENABLED": "false"}) as up:
        runs = [measure(up, options.clients, options.events, options.seconds) for _ in range(options.runs)]
    found = {
        name: statistics.median(run[name] for run in runs) if isinstance(value, int | float) else value
        for name, value in runs[-1].items()
    }
    if options.json:
        print(json.dumps({"median": found, "runs": runs}, indent=2))
        return
    for name, value in found.items():
        print(f"{name:44} {value}")


def measure(up: Swarm, clients: int, rate: int, seconds: float) -> dict[str, Any]:
    """Connect everybody, publish for a while, and ask the clients what they saw."""
    ours, theirs = multiprocessing.Pipe()
    reading = multiprocessing.Process(target=_read, args=(up.url, clients, theirs), daemon=True)
    reading.start()
    theirs.close()  # so that its end is seen, should it fail
    deaf = _deaf(up.url)
    assert ours.recv() == "connected"
    watch = Watch(up)
    published = asyncio.run(_publish(up, rate, seconds))
    used = watch.used()
    ours.send(published)
    seen = ours.recv()
    reading.join(30)
    deaf.close()
    return {
        "clients": clients,
        "events published": published,
        "events received, of all clients": seen["received"],
        "events missing": clients * published - seen["received"],
        "lag events": seen["lags"],
        "late ms, p50": seen["p50"],
        "late ms, p99": seen["p99"],
        "late ms, worst": seen["worst"],
        "cores, gateway": used["cores by service"]["gateway"],
        "cores, whole machine": used["cores, whole machine"],
        "MiB resident, gateway": used["MiB resident by service"]["gateway"],
    }


async def _publish(up: Swarm, rate: int, seconds: float) -> int:
    """Publish events evenly, as the compressor's user; return how many."""
    client = await nats.connect(up.nats_url, **up.nats_as("compressor"))
    jetstream = client.jetstream()
    count, began = int(rate * seconds), time.time()
    for number in range(count):
        await asyncio.sleep(max(began + number / rate - time.time(), 0))
        event = {"id": f"e-{number}", "event_type": "check_result", "at": time.time(), "rest": _REST}
        subject = subjects.event_in("bench", "nobody", "check_result")
        place = {streams.PLACE: f"{number + 1}.0"}  # what has none is no event
        await jetstream.publish(subject, json.dumps(event).encode(), headers=place)
    await client.close()
    return count


def _deaf(url: str) -> socket.socket:
    """Return a connection to the stream that is never read."""
    where = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((where.hostname, where.port))
    connection.sendall(b"GET /v1/cognition/stream HTTP/1.1\r\nHost: bench\r\n\r\n")
    return connection


class _Client(asyncio.Protocol):
    """One client: notes how late each event is."""

    def __init__(self, late: list[float], connected: asyncio.Queue[None]) -> None:
        self.lags = 0
        self.received = 0
        self._late = late
        self._connected = connected
        self._buffer = b""
        self._said = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET /v1/cognition/stream HTTP/1.1\r\nHost: bench\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        now = time.time()
        *blocks, self._buffer = (self._buffer + data).split(b"\n\n")
        for block in blocks:
            if b'"at": ' in block:
                self.received += 1
                self._late.append(now - float(block.split(b'"at": ')[1].split(b",")[0]))
            elif b"event: lag" in block:
                self.lags += 1
            elif not self._said:
                self._said = True
                self._connected.put_nowait(None)


def _read(url: str, clients: int, ours: Connection) -> None:
    asyncio.run(_read_all(url, clients, ours))


async def _read_all(url: str, clients: int, ours: Connection) -> None:
    where, loop = urlsplit(url), asyncio.get_running_loop()
    assert where.hostname is not None and where.port is not None
    late: list[float] = []
    connected: asyncio.Queue[None] = asyncio.Queue()
    everybody = []
    for _ in range(clients):
        made = await loop.create_connection(lambda: _Client(late, connected), where.hostname, where.port)
        everybody.append(made[1])
    for _ in range(clients):
        await connected.get()
    ours.send("connected")
    published = await loop.run_in_executor(None, ours.recv)
    end = loop.time() + _GRACE_S
    while sum(one.received for one in everybody) < clients * published and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    ours.send(
        {
            "received": sum(one.received for one in everybody),
            "lags": sum(one.lags for one in everybody),
            "p50": round(1000 * percentile(late, 0.5), 1),
            "p99": round(1000 * percentile(late, 0.99), 1),
            "worst": round(1000 * max(late), 1),
        }
    )


if __name__ == "__main__":
    main()
