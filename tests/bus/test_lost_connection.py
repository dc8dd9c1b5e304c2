"""What is sent in the moment in which a connection is lost, on both event loops."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.errors import OutcomeUnknown
from libs.bus.telemetry import NoTelemetry
from libs.contracts import streams
from libs.contracts.journal import Position
from tests.chaos.proxy import Proxy
from tests.conftest import Run
from tests.support.broker import HOST, Broker
from tests.support.eventually import eventually
from tests.support.resets import ends_by_reset

_INFO = b'INFO {"server_id":"x","version":"2.12.1","proto":1,"headers":true,"max_payload":1048576}\r\n'


def test_what_is_sent_over_a_connection_that_breaks_just_then_raises_nothing_else(
    run: Run, broker: Broker
) -> None:
    """Found by a storm: a compressor crashed over the words that uvloop has for it."""

    async def work() -> None:
        async with connect(broker.url, "test", NoTelemetry()) as bus:
            for _ in range(5):
                await eventually(lambda: bus.connected)
                _broken(bus)
                await _send_on(bus)
                assert not bus.lost.done()
            await eventually(lambda: bus.connected)
            await bus.api("INFO")

    run(work())


def test_a_connection_that_breaks_while_it_greets_is_tried_again(run: Run, broker: Broker) -> None:
    greeted = 0

    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(_INFO)
        await writer.drain()
        ends_by_reset(writer)
        writer.transport.abort()

    async def work() -> None:
        proxy = await Proxy(broker.port).open()
        async with (
            await asyncio.start_server(break_off, HOST, 0) as server,
            connect(proxy.url, "test", NoTelemetry()) as bus,
        ):
            proxy.target_port = server.sockets[0].getsockname()[1]
            proxy.cut()
            await eventually(lambda: greeted > 4, what="tries")
            proxy.target_port = broker.port
            await eventually(lambda: bus.connected)
            await bus.api("INFO")
        proxy.close()

    run(work())


def _broken(bus: Bus) -> None:
    transport = bus.client._transport
    assert transport is not None
    transport._io_writer.transport.abort()  # type: ignore[attr-defined]


async def _send_on(bus: Bus) -> None:
    """Send until the loss is known, in every way there is."""
    for _ in range(100):
        await bus.note("perpetua.test", Position(sequence=1))
        try:
            await bus.publisher.post([("perpetua.test", b"", "A: b\r\n")])
            (await bus.publisher.send(f"$KV.{streams.LEASES}.x", b"")).cancel()
        except OutcomeUnknown:
            assert not bus.connected
            return
        await asyncio.sleep(0)
    pytest.fail("the loss of the connection was not noticed")
