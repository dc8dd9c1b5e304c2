"""The gateway's composition and lifespan."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, cast
from uuid import uuid4

import structlog
import uvicorn
from litestar.types import ASGIApp
from prometheus_client import Gauge
from uvicorn.server import ServerState

from libs.bus.presence import Peers
from libs.concurrency.tasks import Background
from libs.contracts.presence import BootSummary
from libs.runtime.process import ConfigurationError, Process, own_version, versions
from libs.settings.gateway import GatewaySettings
from services.gateway.accepting import Entrance
from services.gateway.app import make_app
from services.gateway.connections import Connection, ConnectionLimits, Door
from services.gateway.feed import Feed
from services.gateway.metrics import Refusals
from services.gateway.peers import Swarm
from services.gateway.rates import Rates
from services.gateway.senders import senders
from services.gateway.sending import Sending

log = structlog.get_logger("gateway")

_BACKLOG = 2048
_SEND_BUFFER = 256 * 1024
"""Bytes that the kernel keeps for a client that does not read; left alone it would keep megabytes."""

_FILES_KEPT = 64
"""Files that are no connections."""

_FILES_MOST = 1 << 20
_KEEP_ALIVE_S = 75
_REQUESTS_WITHIN_S = 5


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Serve HTTP; drain by ending the event streams, then finishing the requests under way."""
    bus = process.bus
    settings = process.settings.gateway
    open_files = _raise_open_files()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what clients do wrong is counted, not logged
    listener = listen(settings)
    peers = Peers(bus, "scheduler", process.presence.subject)
    feed = Feed(bus, process.metrics, most_clients=settings.sse_clients)
    await peers.prime()
    refusals = Refusals(process.metrics.registry)
    limits = ConnectionLimits(
        connections=min(settings.connections, open_files - _FILES_KEPT),
        client_connections=settings.client_connections,
    )
    door = Door(limits, refusals.count)
    swarm = Swarm(bus, peers)
    sending = Sending(bus, swarm, lambda: datetime.now(UTC), lambda: str(uuid4()))
    app = make_app(
        bus=bus,
        swarm=swarm,
        sending=sending,
        feed=feed,
        health=process.health,
        registry=process.metrics.registry,
        settings=settings,
        refused=refusals.count,
        answering=lambda request: process.did(f"answered {request}"),
        version=own_version(),
    )
    Gauge(
        "perpetua_sse_clients", "Clients that follow the event stream.", registry=process.metrics.registry
    ).set_function(lambda: feed.clients)
    Gauge(
        "perpetua_http_connections", "Connections to the gateway.", registry=process.metrics.registry
    ).set_function(lambda: door.inside)
    server = Server(config(app, settings), door)
    rates = Rates(settings.requests_per_s, time.monotonic)
    async with (
        _open(listener),
        senders(bus, sending, rates, process.metrics),
        Background() as tasks,
    ):
        tasks.create_task(peers.run(), name="peers")
        tasks.create_task(feed.run(), name="feed")
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        await server.until_started()
        process.set_ready(
            BootSummary(service="gateway", hosted=1, versions=versions("nats-py", "litestar", "uvicorn"))
        )
        yield
        feed.close()
        server.end()
        await asyncio.wait([serving])


class _State(ServerState):
    """Makes the headers of every answer, with the date, when a request wants them."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        self._second, self._with_date = 0, headers
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        second = int(time.time())
        if second != self._second:
            date = formatdate(second, usegmt=True).encode()
            self._second, self._with_date = second, [(b"date", date), *self._headers]
        return self._with_date

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """Let the library set what is made here."""


class Server(uvicorn.Server):
    """A server inside our own event loop: signals stay with the process, and connections pass the door.

    It wakes for its clients alone. The library's wakes ten times a second, to see whether it is to end and
    what the date is.
    """

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door
        self._listeners: list[socket.socket] = []
        self.server_state = _State(config.encoded_headers)
        self._ends = asyncio.Event()

    def end(self) -> None:
        """Have `serve` return once the requests under way are answered."""
        self.should_exit = True
        self._ends.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Have the library listen nowhere."""
        self._listeners, self.servers = sockets or [], []
        self.started = True

    async def main_loop(self) -> None:
        """Take connections until the server is to end."""
        async with Background() as tasks:
            for listener in self._listeners:
                entrance = Entrance(self._door, listener, self.config.ssl, self._connection)
                tasks.create_task(entrance.run(), name="accept")
            await self._ends.wait()

    def _connection(self, client: str | None) -> Connection:
        return Connection(
            self._door,
            client,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def until_started(self) -> None:
        """Return once connections are accepted."""
        while not self.started:  # noqa: ASYNC110 - the library has no event for it
            await asyncio.sleep(0.005)


def config(app: ASGIApp, settings: GatewaySettings) -> uvicorn.Config:
    """Return how the server runs. Raises `ConfigurationError` for a certificate that cannot be used."""
    made = uvicorn.Config(
        cast("Any", app),
        loop="none",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_REQUESTS_WITHIN_S,
    )
    try:
        made.load()
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"the gateway cannot use its certificate: {error}; see PERPETUA_GATEWAY_TLS_CERT and …_TLS_KEY"
        ) from error
    return made


def _raise_open_files() -> int:
    """Let this process open as many files as the system allows it, and return how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES_MOST if hard == resource.RLIM_INFINITY else min(hard, _FILES_MOST)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)


@asynccontextmanager
async def _open(listener: socket.socket) -> AsyncIterator[None]:
    """Close the listener in the end: the server does so only where it is told to end."""
    with listener:
        yield


def listen(settings: GatewaySettings) -> socket.socket:
    """Return a listening socket. Raises `ConfigurationError` where the port is taken."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror}; set PERPETUA_GATEWAY_PORT"
        ) from error
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
