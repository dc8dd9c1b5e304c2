"""The storm's proxy does to a connection what a network can do, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import Proxy
from tests.support.eventually import eventually

_DELAY_S = 0.5


class Way:
    """A connection through a proxy, and what has arrived at its other end."""

    def __init__(self) -> None:
        self.arrived = bytearray()
        self._over = asyncio.Event()
        self._server: asyncio.Server
        self._proxy: Proxy
        self._writer: asyncio.StreamWriter

    async def open(self) -> Proxy:
        self._server = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        self._proxy = await Proxy(self._server.sockets[0].getsockname()[1]).open()
        port = int(self._proxy.url.rpartition(":")[2])
        _, self._writer = await asyncio.open_connection("127.0.0.1", port)
        return self._proxy

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await asyncio.sleep(0.02)

    async def has(self, data: bytes) -> None:
        await eventually(lambda: len(self.arrived) >= len(data), what="all that was sent")
        assert bytes(self.arrived) == data

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.arrived += data
        writer.close()
        self._over.set()

    async def close(self) -> None:
        self._writer.close()
        await self._over.wait()
        self._proxy.close()
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def way() -> AsyncIterator[Way]:
    one = Way()
    yield one
    await one.close()


async def test_a_delay_that_ends_lets_nothing_overtake_what_is_still_under_way(way: Way) -> None:
    """Found by a storm: a record of the journal arrived with its parts exchanged, which TCP never does."""
    proxy = await way.open()
    proxy.delay = _DELAY_S
    await way.send(b"first ")
    await way.send(b"second ")
    assert way.arrived == b""
    proxy.delay = 0.0
    await way.send(b"third ")
    await way.send(b"fourth ")
    await way.has(b"first second third fourth ")


async def test_what_stalls_during_a_delay_arrives_in_order_once_it_is_let_go(way: Way) -> None:
    proxy = await way.open()
    proxy.delay = _DELAY_S
    await way.send(b"first ")
    proxy.stall(True)
    proxy.delay = 0.0
    await way.send(b"second ")
    await asyncio.sleep(1.5 * _DELAY_S)
    assert way.arrived == b""
    proxy.stall(False)
    await way.has(b"first second ")
