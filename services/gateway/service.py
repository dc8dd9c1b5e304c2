"""The gateway's composition and lifespan."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import structlog
import uvicorn
from litestar.types import ASGIApp
from prometheus_client import Gauge

from libs.bus.presence import Peers
from libs.concurrency.tasks import Background
from libs.contracts.presence import BootSummary
from libs.runtime.process import ConfigurationError, Process, own_version, versions
from libs.settings.process import ProcessSettings
from services.gateway.app import make_app
from services.gateway.feed import Feed
from services.gateway.peers import Swarm

log = structlog.get_logger("gateway")

_BACKLOG = 2048
_SEND_BUFFER = 256 * 1024
"""Bytes that the kernel keeps for a client that does not read; left alone it would keep megabytes."""

_KEEP_ALIVE_S = 75
_REQUESTS_WITHIN_S = 5


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Serve HTTP; drain by ending the event streams, then finishing the requests under way."""
    bus = process.bus
    listener = listen(process.settings)
    peers = Peers(bus, "scheduler")
    feed = Feed(bus, process.metrics)
    await peers.prime()
    app = make_app(
        bus=bus,
        swarm=Swarm(bus, peers),
        feed=feed,
        health=process.health,
        registry=process.metrics.registry,
        version=own_version(),
    )
    Gauge(
        "perpetua_sse_clients", "Clients that follow the event stream.", registry=process.metrics.registry
    ).set_function(lambda: feed.clients)
    server = Server(config(app))
    async with Background() as tasks:
        tasks.create_task(peers.run(), name="peers")
        tasks.create_task(feed.run(), name="feed")
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        await server.until_started()
        process.set_ready(
            BootSummary(service="gateway", hosted=1, versions=versions("nats-py", "litestar", "uvicorn"))
        )
        yield
        feed.close()
        server.should_exit = True
        await asyncio.wait([serving])


class Server(uvicorn.Server):
    """A server inside our own event loop: signals stay with the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def until_started(self) -> None:
        """Return once connections are accepted."""
        while not self.started:  # noqa: ASYNC110 - the library has no event for it
            await asyncio.sleep(0.005)


def config(app: ASGIApp) -> uvicorn.Config:
    """Return how the server runs."""
    return uvicorn.Config(
        cast("Any", app),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_REQUESTS_WITHIN_S,
    )


def listen(settings: ProcessSettings) -> socket.socket:
    """Return a listening socket. Raises `ConfigurationError` where the port is taken."""
    host, port = settings.gateway.host, settings.gateway.port
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
