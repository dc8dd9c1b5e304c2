"""An event stream that is quiet, and one that died without having ended, as behind a forgetful router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from libs.bus.connection import Bus
from tests.clients.browsing import opened
from tests.services.standin import StandIn, gateway
from tests.support.eventually import eventually

SHOWN = "[...document.querySelectorAll('#list .event')].map((row) => Number(row.dataset.sequence))"
READ_AT_ONCE = 1 << 16
HEARTBEAT_S = 1.0


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
        self.beats = 0
        """Heartbeats that were passed on."""

    async def down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the gateway says, unless it is forgotten."""
        while data := await reader.read(READ_AT_ONCE):
            if not self.forgotten:
                self.beats += data.count(b"event: heartbeat")
                writer.write(data)
        writer.close()


@asynccontextmanager
async def routed(served: StandIn) -> AsyncIterator[Router]:
    """A router before a gateway while the context is open."""
    port = urlsplit(served.url).port
    assert port is not None
    router = Router(port)
    async with await asyncio.start_server(router.take, "127.0.0.1", 0) as server:
        router.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield router


async def emit(served: StandIn, count: int) -> None:
    for _ in range(count):
        await served.emit("check_result", "ann", {"result": "all calm"})


@pytest_asyncio.fixture
async def served(bus: Bus) -> AsyncIterator[StandIn]:
    """A gateway whose heartbeat is a quick one."""
    async with gateway(bus, keep_alive=HEARTBEAT_S) as made:
        yield made


@pytest.mark.fact("5.3")
async def test_a_stream_that_is_only_quiet_stays_open(browser: Browser, served: StandIn) -> None:
    """Nobody thinks, for several times as long as a dead stream is put up with: no second connection."""
    await emit(served, 3)
    async with routed(served) as router, opened(browser, router) as page:
        await page.until(f"{SHOWN}.length === 3", "rows")
        await eventually(lambda: router.streams[0].beats >= 12, 30, "heartbeats")
        await emit(served, 1)
        await page.until(f"{SHOWN}.length === 4", "the next event")
        assert len(router.streams) == 1


@pytest.mark.fact("5.3")
async def test_a_stream_that_died_in_silence_goes_on_behind_its_last_event(
    browser: Browser, served: StandIn
) -> None:
    """The gateway answers and no heartbeat comes: the page connects again, and shows each event once."""
    await emit(served, 3)
    async with routed(served) as router, opened(browser, router) as page:
        await page.until(f"{SHOWN}.length === 3", "rows")
        await eventually(lambda: router.streams[0].beats >= 1, what="a heartbeat")
        router.forget()
        await emit(served, 2)
        await page.until(f"{SHOWN}.length === 5", "events again", within=30)
        assert len(router.streams) == 2
        assert await page.page.evaluate(SHOWN) == [5, 4, 3, 2, 1]
        assert page.strangers == []
