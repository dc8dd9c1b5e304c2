"""The gateway's own server, guard and connections over a small application, in this process."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from litestar.types import ASGIApp

from libs.settings.gateway import GatewaySettings, read_gateway
from libs.settings.process import process_reader
from services.gateway.access import Access
from services.gateway.connections import Connection, ConnectionLimits, Door
from services.gateway.guard import Guard
from services.gateway.rates import Rates
from services.gateway.service import Server, config, listen

READER, MASTER = "read-token-0123456789", "control-token-0123456789"
TOKENS = f"read:{READER},control:{MASTER}"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body was; `/large` sends more than any buffer takes, `/slow` takes its time."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep({"/slow": 0.02, "/slower": 0.5}.get(scope["path"], 0))
    body = b"x" * (32 << 20) if scope["path"] == "/large" else str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Served:
    """A server that runs, and what it has refused."""

    def __init__(self, server: Server, port: int, door: Door, refused: Counter[str]) -> None:
        self._server = server
        self.port = port
        self.door = door
        self.refused = refused

    @property
    def waiting(self) -> int:
        """Requests that wait for an earlier one of their connection."""
        return sum(len(cast("Connection", one).pipeline) for one in self._server.server_state.connections)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    async def exchange(self, sent: bytes) -> bytes:
        """Send bytes and return everything that comes until the server closes."""
        reader, writer = await self.open()
        try:
            writer.write(sent)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def get(self, path: str = "/v1/x", method: str = "GET", **headers: str) -> Answered:
        lines = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return Answered(await self.exchange(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")))


class Answered:
    """An answer taken apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (li.partition(":") for li in lines)}

    @property
    def detail(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        problem = msgspec.json.decode(self.body)
        assert problem["status"] == self.status
        return str(problem["detail"])


def settings(**env: str) -> GatewaySettings:
    given = {"PERPETUA_GATEWAY_PORT": "0"} | {f"PERPETUA_{name}": value for name, value in env.items()}
    return read_gateway(process_reader(given), listens=True)


@asynccontextmanager
async def served(limits: ConnectionLimits | None = None, **env: str) -> AsyncIterator[Served]:
    """A server by some settings while the context is open."""
    wanted, refused = settings(**env), Counter[str]()
    count = refused.update
    bounds = limits or ConnectionLimits(
        connections=wanted.connections, client_connections=wanted.client_connections
    )

    def note(reason: str) -> None:
        count([reason])

    door = Door(bounds, note)
    listener = listen(wanted)
    loop = asyncio.get_running_loop()
    rates = Rates(wanted.requests_per_s, loop.time)
    guard = Guard(cast("ASGIApp", application), Access(wanted.tokens, time.time), rates, wanted.names, note)
    server = Server(config(cast("ASGIApp", guard), wanted), door)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.until_started()
        yield Served(server, listener.getsockname()[1], door, refused)
    finally:
        server.end()
        await serving
