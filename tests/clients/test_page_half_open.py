"""An event stream that is quiet, and one that died without having ended, as behind a forgetful router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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
WATCH_PAUSES = """() => {
  let at = performance.now();
  window.paused = 0;
  setInterval(() => {
    const now = performance.now();
    window.paused = Math.max(window.paused, now - at);
    at = now;
  }, 50);
}"""
"""Keeps the longest time for which the page itself did nothing."""


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
        with suppress(OSError):
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

        self.silent_s = 0.0
        """The longest time between two of them."""

        self._beat_at = 0.0

    async def down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the gateway says, unless it is forgotten."""
        with suppress(OSError):
            while data := await reader.read(READ_AT_ONCE):
                if not self.forgotten:
                    self._count(data.count(b"event: heartbeat"))
                    writer.write(data)
        writer.close()

    def _count(self, beats: int) -> None:
        if not beats:
            return
        now = asyncio.get_running_loop().time()
        if self.beats:
            self.silent_s = max(self.silent_s, now - self._beat_at)
        self.beats += beats
        self._beat_at = now


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
    """Nobody thinks, for several times as long as a dead stream is put up with: no second connection.

    Where the machine itself stood still for nearly as long, that was no quiet stream: it is looked at again.
    """
    for stored in range(3, 7):
        await emit(served, 3 if stored == 3 else 0)
        async with routed(served) as router, opened(browser, router) as page:
            await page.page.evaluate(WATCH_PAUSES)
            await page.until(f"{SHOWN}.length === {stored}", "rows")
            await eventually(lambda: sum(one.beats for one in router.streams) >= 12, 60, "heartbeats")
            await emit(served, 1)
            await page.until(f"{SHOWN}.length === {stored + 1}", "the next event")
            connections = len(router.streams)
            pauses = [await page.page.evaluate("window.paused / 1000"), *(s.silent_s for s in router.streams)]
        if max(pauses) < 2 * HEARTBEAT_S:
            break
    assert connections == 1


@pytest.mark.fact("5.3")
async def test_a_stream_that_died_in_silence_goes_on_behind_its_last_event(
    browser: Browser, served: StandIn
) -> None:
    """The gateway answers and no heartbeat comes: the page connects again, and shows each event once."""
    await emit(served, 3)
    async with routed(served) as router, opened(browser, router) as page:
        await page.until(f"{SHOWN}.length === 3", "rows")
        await eventually(lambda: router.streams[-1].beats >= 1, 30, "a heartbeat")
        before = len(router.streams)
        router.forget()
        await emit(served, 2)
        await page.until(f"{SHOWN}.length === 5", "events again")
        assert len(router.streams) > before
        assert await page.page.evaluate(SHOWN) == [5, 4, 3, 2, 1]
        assert page.strangers == []
