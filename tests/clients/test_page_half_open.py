"""An event stream that is dead without having ended, as behind a router that has forgotten it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser

from tests.clients.browsing import opened
from tests.support.swarm import Swarm

SHOWN = "[...document.querySelectorAll('#list .event')].map((row) => Number(row.dataset.sequence))"
READ_AT_ONCE = 1 << 16


class Router:
    """Stands before a gateway, and can forget the event streams that go through it."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.streams: list[Connection] = []
        self._port = port

    def forget(self) -> None:
        """Pass on nothing more of the streams that are open now; neither end is told."""
        for stream in self.streams:
            stream.forgotten = True

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on, both ways, until one end closes it."""
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        connection = Connection()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._up(connection, reader, ours))
            both.create_task(connection.down(theirs, writer))

    async def _up(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(READ_AT_ONCE):
            if b"GET /v1/cognition/stream" in data:
                self.streams.append(connection)
            writer.write(data)
        writer.close()


class Connection:
    """One connection through the router."""

    def __init__(self) -> None:
        self.forgotten = False

    async def down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the gateway says, unless it is forgotten."""
        while data := await reader.read(READ_AT_ONCE):
            if not self.forgotten:
                writer.write(data)
        writer.close()


@asynccontextmanager
async def routed(swarm: Swarm) -> AsyncIterator[Router]:
    """A router before a swarm's gateway while the context is open."""
    port = urlsplit(swarm.url).port
    assert port is not None
    router = Router(port)
    async with await asyncio.start_server(router.take, "127.0.0.1", 0) as server:
        router.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield router


@pytest.mark.fact("5.3")
async def test_a_stream_that_died_in_silence_goes_on_behind_its_last_event(
    browser: Browser, running: Swarm
) -> None:
    """The loop ticks and no event comes: the page connects again, and shows each event once."""
    async with routed(running) as router, opened(browser, router) as page:
        await page.until(f"{SHOWN}.length >= 3", "rows")
        router.forget()
        seen = await page.page.evaluate(f"{SHOWN}[0]")
        await page.until(f"{SHOWN}[0] > {seen} + 50", "events again", within=60)
        assert len(router.streams) == 2
        await page.find("#pause").click()
        rows = await page.page.evaluate(SHOWN)
        assert rows == list(range(rows[0], rows[0] - len(rows), -1))
        assert page.strangers == []
