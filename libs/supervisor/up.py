"""Bringing everything up, keeping it up, and ending it in order."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec

from libs.concurrency.tasks import Background, beside, leaves
from libs.contracts.permissions import ADMIN
from libs.contracts.streams import StreamBounds
from libs.settings.broker import BrokerSettings
from libs.settings.urls import url_of
from libs.supervisor import broker
from libs.supervisor.child import Child, Gone
from libs.supervisor.data_dir import DataDir, RunRecord
from libs.supervisor.ending import Ending
from libs.supervisor.errors import UpError, cannot_listen, port_taken
from libs.supervisor.keys import authorization, make_seeds, seed_file
from libs.supervisor.screen import Screen

HOST = "127.0.0.1"
"""Where the embedded broker listens."""

_MARGIN_S = 2.0
"""What ends a process on a busy machine, beyond the time that it takes by itself."""


@dataclass(frozen=True)
class UpOptions:
    """What the command line says."""

    data_dir: Path
    gateway_port: int
    nats_port: int
    nats_url: str | None
    thinkers: int
    schedulers: int
    registries: int
    compressors: int
    bounds: StreamBounds
    gateway_scheme: str
    gateway_host: str
    ends_within_s: float
    """Seconds after SIGTERM within which a service has ended by itself."""

    access: BrokerSettings
    """How to reach a broker of one's own; the embedded one has its own keys."""

    env: dict[str, str] = field(default_factory=dict)
    """Settings for the services beyond this process's own environment."""


ALLOCATOR = MappingProxyType(
    {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "268435456",
    }
)
"""glibc is to keep what a model frees from one step to the next: a batch of 32 takes a little over half the
time on a CPU. It reads these when a process starts; what the environment says already goes first."""

EMBEDDED_BROKER = MappingProxyType(
    dict.fromkeys(
        (
            "PERPETUA_NATS_CREDS_FILE",
            "PERPETUA_NATS_TLS_CA",
            "PERPETUA_NATS_TLS_CERT",
            "PERPETUA_NATS_TLS_KEY",
        ),
        "",
    )
)
"""What is meant for a broker of one's own does not count for the embedded one; empty is absent."""

GATEWAY_SECRETS = MappingProxyType({"PERPETUA_API_TOKENS": "", "PERPETUA_API_TOKENS_FILE": ""})
"""No other service is told the gateway's tokens."""

STOP_ORDER = ("gateway", "thinker", "scheduler", "registry", "compressor", "nats")
"""Thinkers settle with a scheduler, everybody's events are published last, and all need the broker."""


class Up:
    """One `perpetua up`."""

    def __init__(self, options: UpOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._data = DataDir(options.data_dir)
        self._ending = Ending(screen.ending_at_once)
        self._gateway_port = options.gateway_port
        self._nats_port = options.nats_port or broker.free_port(HOST)
        self._nats_url = options.nats_url or f"nats://{HOST}:{self._nats_port}"
        self._embedded = options.nats_url is None
        self._children: list[Child] = []
        self._gone: asyncio.Queue[Gone] = asyncio.Queue()

    @property
    def gateway_url(self) -> str:
        """Where this machine reaches the gateway."""
        return url_of(self._options.gateway_scheme, self._options.gateway_host, self._gateway_port)

    async def run(self) -> None:
        """Bring everything up and stay until a signal asks for the end. Raises `UpError` where it cannot."""
        self._ending.heed_signals()
        with self._data.claimed():
            self._choose_ports()
            self._children = self._make_children()
            async with self._kept():
                try:
                    showing, stopping = self._show(), self._ending.asked.wait()
                    async with beside(showing, "show") as shown, beside(stopping, "stop-signal") as stopped:
                        await asyncio.wait([shown, stopped], return_when=asyncio.FIRST_COMPLETED)
                        if shown.done():
                            shown.result()
                except* UpError as group:
                    raise self._rolled_back(next(leaves(group))) from group
                finally:
                    self._screen.stopping()
            self._screen.stopped(self._data.path if self._embedded else None)

    def _rolled_back(self, error: BaseException) -> UpError:
        """Return why `up` cannot go on, with how much of it is ended again: nothing that was there before."""
        begun = sum(child.record().since is not None for child in self._children)
        return UpError(
            f"{error}. The {begun} processes that this `up` had started are ended",
            getattr(error, "status", 1),
        )

    async def _show(self) -> None:
        """Make the streams and show what happens, with modules that load while the services load theirs."""
        from libs.runtime.imports import preload

        preload()
        from libs.supervisor.live import Brought, Live

        brought = Brought(
            self.gateway_url,
            self._access(),
            self._children,
            self._gone,
            self._options.bounds,
            self._data.streams,
            self._data.logs / "nats.log",
        )
        await Live(brought, self._screen).run()

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        """Keep every child running while the context is open, then end them in order."""
        async with Background() as tasks:
            for child in self._children:
                tasks.create_task(child.keep(), name=child.instance)
            try:
                yield
            finally:
                grace = self._options.ends_within_s + _MARGIN_S
                for service in STOP_ORDER:
                    named = [child for child in self._children if child.service == service]
                    await asyncio.gather(*(child.stop(grace, self._ending.at_once) for child in named))

    def _make_children(self) -> list[Child]:
        options = self._options
        counts = {  # the slowest to load first
            "gateway": 1,
            "registry": options.registries,
            "scheduler": options.schedulers,
            "compressor": options.compressors,
            "thinker": options.thinkers,
        }
        names = [f"{service}-{n}" for service, count in counts.items() for n in range(1, count + 1)]
        children = [self._service(name) for name in names]
        return [self._broker(), *children] if self._embedded else children

    def _broker(self) -> Child:
        log = self._data.logs / "nats.log"
        users = authorization(make_seeds(self._data.keys), public_events=True)
        config = broker.write_config(
            self._data.path,
            self._data.streams,
            log,
            HOST,
            self._nats_port,
            authorization=users,
            sync_always=self._options.bounds.sync_always,
        )
        return self._child("nats", "nats-1", [broker.find_server(), "-c", str(config)], {})

    def _access(self) -> BrokerSettings:
        """Return how this process itself reaches the broker."""
        if self._embedded:
            return BrokerSettings(
                user=ADMIN, url=self._nats_url, nkey_file=str(seed_file(self._data.keys, ADMIN))
            )
        return msgspec.structs.replace(self._options.access, url=self._nats_url)

    def _service(self, instance: str) -> Child:
        service = instance.rpartition("-")[0]
        env = {
            "PERPETUA_NATS_URL": self._nats_url,
            "PERPETUA_INSTANCE": instance,
            "PERPETUA_LOG_FORMAT": "json",
            "PERPETUA_DATA_DIR": str(self._data.path),
            "PERPETUA_GATEWAY_PORT": str(self._gateway_port),
            "PERPETUA_METRICS_PORT": "0",
        }
        if self._embedded:
            env |= EMBEDDED_BROKER | {"PERPETUA_NATS_NKEY_FILE": str(seed_file(self._data.keys, service))}
        if service != "gateway":
            env |= GATEWAY_SECRETS
        defaults = ALLOCATOR if service == "thinker" else {}
        return self._child(service, instance, [sys.executable, "-m", f"services.{service}"], env, defaults)

    def _child(
        self,
        service: str,
        instance: str,
        command: list[str],
        env: dict[str, str],
        defaults: Mapping[str, str] = MappingProxyType({}),
    ) -> Child:
        return Child(
            service,
            instance,
            command,
            dict(defaults) | dict(os.environ) | self._options.env | env,
            self._data.logs / f"{instance}.log",
            self._changed,
            self._screen.line,
            self._gone.put_nowait,
        )

    def _changed(self) -> None:
        self._data.write(
            RunRecord(
                pid=os.getpid(),
                nats_url=self._nats_url,
                gateway_url=self.gateway_url,
                children=[child.record() for child in self._children],
            )
        )

    def _choose_ports(self) -> None:
        """Find a port where any will do. Raises `UpError` where one cannot be had."""
        host = self._options.gateway_host
        try:
            self._gateway_port = self._gateway_port or broker.free_port(host)
            free = broker.is_free(host, self._gateway_port)
        except OSError as error:
            raise cannot_listen(host, error) from error
        if not free:
            raise port_taken("gateway", self._gateway_port, "--gateway-port")
        if self._embedded and not broker.is_free(HOST, self._nats_port):
            raise port_taken("broker", self._nats_port, "--nats-port")
