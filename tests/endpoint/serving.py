"""A raw HTTP server on a loopback port whose every byte, pause and cut is up to the test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from libs.settings.cognition import PREFIX, ThinkerSettings, cognition_reader, read_cognition
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.backends.watching import Requested
from services.thinker.prompt import Prompt
from tests.support.endpoint import completion

PROMPT = Prompt("the system", "the user")
GOOD = "A calm signal. One doubt remains."

Behave = Callable[["Exchange"], Awaitable[None]]
"""What the server does about one request that it has received whole."""


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head.decode()
        self.body = body
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int = 200, body: bytes | None = None, headers: str = "") -> None:
        data = json.dumps(completion(GOOD)).encode() if body is None else body
        await self.send(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data
        )

    def cut(self) -> None:
        self.writer.transport.abort()


async def good(exchange: Exchange) -> None:
    await exchange.answer()


class Server:
    """Counts what reaches it; `behave` may be exchanged while it runs."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.requests: list[Exchange] = []
        self.connections = 0
        self.open = 0
        self.scheme = "http"
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.scheme = "https" if tls is not None else "http"
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._exchanges(reader, writer)
        finally:
            self.open -= 1
            writer.transport.abort()
            self._tasks.discard(task)

    async def _exchanges(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-l")
            )
            exchange = Exchange(head, await reader.readexactly(length), writer)
            self.requests.append(exchange)
            behaving = asyncio.ensure_future(self.behave(exchange))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([behaving, gone], return_when=asyncio.FIRST_COMPLETED)
            if not behaving.done():
                behaving.cancel()
                await asyncio.gather(behaving, return_exceptions=True)
                return
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await behaving


@asynccontextmanager
async def serving(behave: Behave = good, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(behave)
    await server.start(tls)
    try:
        yield server
    finally:
        await server.stop()


def settings(url: str, **env: str) -> ThinkerSettings:
    named = {f"{PREFIX}THINKER_{name}": value for name, value in env.items()}
    return read_cognition(cognition_reader({f"{PREFIX}THINKER_BASE_URL": url} | named)).thinker


class Tally:
    """Counts what the backend says of its requests, by outcome, and remembers its circuit's states."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.states: list[str] = []
        self.pauses: list[float] = []

    def requested(self, details: Requested) -> None:
        self.outcomes[details.outcome.value] = self.outcomes.get(details.outcome.value, 0) + 1

    def moved(self, details: Any) -> None:
        self.states.append(details.state.value)
        self.pauses.append(details.pause)


@asynccontextmanager
async def asking(server: Server | str, **env: str) -> AsyncIterator[tuple[OpenAICompat, Tally]]:
    url = server if isinstance(server, str) else server.base_url
    backend, tally = OpenAICompat(settings(url, **env), "a test named it"), Tally()
    backend.watcher = tally
    try:
        yield backend, tally
    finally:
        await backend.close()
