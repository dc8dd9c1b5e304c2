"""The swarm that a storm blows over: nine service processes, each behind a proxy of its own, and brokers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from libs.bus.connection import connect
from libs.bus.provision import provision
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts.streams import StreamBounds
from libs.supervisor.child import Child
from libs.supervisor.up import STOP_ORDER
from tests.chaos.brokers import HOST, Brokers
from tests.chaos.plan import CLOCKED, SERVICES
from tests.chaos.proxy import Proxy
from tests.support.ports import free_port

BOUNDS = {
    "CODETETHER_COGNITION_MAX_EVENTS": "50000",
    "CODETETHER_COGNITION_MAX_SNAPSHOTS": "400000",
    "PERPETUA_MAX_PROPOSALS": "400000",
}
"""So large that the collector, which reads all the time, is never overtaken by eviction: a minute of events.

Who takes shards over reads them all.
"""

ALONE = ("registry", "scheduler", "compressor")
"""Services that share work by who is there, and that are told of nobody where there are to be no leases."""

_GRACE_S = 15.0
_LINES = 4000
_EVENT = re.compile(r'"event": ?"([a-z_]+)"')
_FAKETIME = ("faketime/libfaketimeMT.so.1",)


class Field:
    """What is up, and who was told to end."""

    def __init__(self, folder: Path, brokers: Brokers, settings: dict[str, str], *, leases: bool) -> None:
        self.folder = folder
        self.brokers = brokers
        self.settings = BOUNDS | settings
        self.gateway_port = free_port(HOST)
        self.url = f"http://{HOST}:{self.gateway_port}"
        self.children: dict[str, Child] = {}
        self.proxies: dict[str, list[Proxy]] = {}
        self.lines: deque[tuple[str, str]] = deque(maxlen=_LINES)
        self.ended: list[tuple[str, str]] = []
        """Who ended, and how, as the supervisor saw it."""

        self._said: Counter[tuple[str, str]] = Counter()

        self.clocks = faketime()
        self._leases = leases
        self.logs_kept: Path | None = None
        """Where the logs are to stay when all is over."""

    async def open(self) -> None:
        await self.brokers.start()
        for instance in SERVICES:
            self.proxies[instance] = [await Proxy(node.port).open() for node in self.brokers.nodes]
            self.set_clock(instance, 0.0)
            self.children[instance] = self._child(instance)

    def pid(self, instance: str) -> int | None:
        """The living process of a name."""
        return self.children[instance].record().pid

    def send(self, instance: str, number: signal.Signals) -> bool:
        """Signal a service; whether it was there."""
        pid = self.pid(instance)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def said(self, event: str) -> dict[str, int]:
        """Return how often each service has logged an event, where it has."""
        return {name: count for (what, name), count in sorted(self._said.items()) if what == event}

    def set_clock(self, instance: str, offset: float) -> None:
        """Let a process's wall clock be so many seconds off. Its monotonic clock is true."""
        self._clock(instance).write_text(f"{offset:+.0f}\n")

    def calm(self) -> None:
        """End every fault that lasts."""
        for instance in SERVICES:
            self.send(instance, signal.SIGCONT)
            self.set_clock(instance, 0.0)
            for proxy in self.proxies[instance]:
                proxy.delay = 0.0
                proxy.stall(False)
        for node in self.brokers.nodes:
            node.resume()

    def keep_logs(self) -> None:
        """Copy the logs of services and brokers to where they are to stay."""
        if self.logs_kept is None:
            return
        shutil.copytree(self.folder / "logs", self.logs_kept)
        for node in self.brokers.nodes:
            shutil.copy(node.log, self.logs_kept / f"{node.name}.log")

    def _clock(self, instance: str) -> Path:
        return self.folder / f"clock-{instance}"

    def _child(self, instance: str) -> Child:
        service = instance.rpartition("-")[0]
        env = self.settings | {
            "PERPETUA_NATS_URL": ",".join(proxy.url for proxy in self.proxies[instance]),
            "PERPETUA_INSTANCE": instance,
            "PERPETUA_LOG_FORMAT": "json",
            "PERPETUA_DATA_DIR": str(self.folder),
            "PERPETUA_GATEWAY_PORT": str(self.gateway_port),
            "PERPETUA_METRICS_PORT": "0",
        }
        if self.clocks and instance in CLOCKED:
            env |= {
                "LD_PRELOAD": str(self.clocks),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock(instance)),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        alone = service in ALONE and not self._leases
        module = ("tests.chaos.alone", service) if alone else (f"services.{service}",)
        command = [sys.executable, "-m", *module]
        log = self.folder / "logs" / f"{instance}.log"
        return Child(service, instance, command, dict(os.environ) | env, log, lambda: None, self._line)

    def _line(self, instance: str, text: str) -> None:
        self.lines.append((instance, text))
        if (event := _EVENT.search(text)) is not None:
            self._said[event[1], instance] += 1
        if text.startswith("ended ("):
            self.ended.append((instance, text.removeprefix("ended (").partition(")")[0]))


def faketime() -> Path | None:
    """Return the library that gives a process a clock of its own, where it is installed."""
    for root in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"):
        for name in _FAKETIME:
            if (Path(root) / name).exists():
                return Path(root) / name
    return None


@asynccontextmanager
async def field(
    brokers: int,
    settings: dict[str, str],
    *,
    disk: bool = False,
    sync_always: bool = False,
    leases: bool = True,
) -> AsyncIterator[Field]:
    """Everything up while the context is open."""
    folder = Path(tempfile.mkdtemp(prefix="perpetua-chaos-"))
    (folder / "logs").mkdir()
    nodes = Brokers(folder, brokers, disk=disk, sync_always=sync_always)
    own = {"PERPETUA_REPLICAS": str(min(brokers, 3)), "PERPETUA_SYNC_ALWAYS": str(sync_always).lower()}
    made = Field(folder, nodes, settings | own, leases=leases)
    try:
        await made.open()
        await _provision(made)
        async with Background() as tasks:
            for child in made.children.values():
                tasks.create_task(child.keep(), name=child.instance)
            try:
                yield made
            finally:
                made.calm()
                for group in _in_order(made):
                    await asyncio.gather(*(child.stop(_GRACE_S) for child in group))
    finally:
        made.keep_logs()
        for proxy in (proxy for proxies in made.proxies.values() for proxy in proxies):
            proxy.close()
        nodes.close()
        shutil.rmtree(folder, ignore_errors=True)


def _in_order(made: Field) -> Iterator[list[Child]]:
    for service in STOP_ORDER:
        yield [child for child in made.children.values() if child.service == service]


async def _provision(made: Field) -> None:
    bounds = StreamBounds(
        max_events=int(BOUNDS["CODETETHER_COGNITION_MAX_EVENTS"]),
        max_snapshots=int(BOUNDS["CODETETHER_COGNITION_MAX_SNAPSHOTS"]),
        max_proposals=int(BOUNDS["PERPETUA_MAX_PROPOSALS"]),
        replicas=int(made.settings["PERPETUA_REPLICAS"]),
        sync_always=made.settings["PERPETUA_SYNC_ALWAYS"] == "true",
    )
    async with connect(",".join(made.brokers.urls), "storm-provision", NoTelemetry()) as bus:
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            try:
                await provision(bus, bounds)
                return
            except Exception:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.5)
