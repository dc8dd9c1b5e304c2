"""Where TLS is demanded, whoever takes the broker's place hears nothing, at first and after a reconnect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from libs.bus.access import NoTls
from libs.bus.connection import connect
from libs.bus.telemetry import NoTelemetry
from libs.settings.broker import BrokerSettings
from tests.support.broker import HOST, Broker
from tests.support.eventually import eventually

INFO = {"server_id": "X", "version": "2.15.1", "headers": True, "max_payload": 1048576}


@asynccontextmanager
async def impostor(port: int, **info: object) -> AsyncIterator[list[bytes]]:
    """Who listens in a broker's place without TLS, and what it has heard from each that came."""
    heard: list[bytes] = []
    there: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps(INFO | info).encode() + b"\r\n")
        there.append(writer)
        heard.append(b"")
        at = len(heard) - 1
        while said := await reader.read(65536):
            heard[at] += said
            if b"PING\r\n" in said:
                writer.write(b"PONG\r\n")

    async with await asyncio.start_server(serve, HOST, port):
        try:
            yield heard
        finally:
            for writer in there:
                writer.close()
                await writer.wait_closed()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with a certificate for a broker, and whose it is signed by."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    return tmp_path


async def test_a_broker_that_comes_back_without_tls_hears_nothing_of_what_waited(authority: Path) -> None:
    server = json.dumps(str(authority / "server.pem"))
    broker = Broker(f"tls {{ cert_file: {server}, key_file: {server} }}\n")
    try:
        trusted = BrokerSettings(url=broker.url, tls_ca=str(authority / "ca.pem"))
        async with AsyncExitStack() as outer:
            async with connect(trusted, "test", NoTelemetry()) as bus:
                await bus.subscribe("private", lambda _: asyncio.sleep(0))
                broker.kill()
                await eventually(lambda: not bus.connected)
                await bus.client.publish("private", b"said while nobody was there")
                heard = await outer.enter_async_context(impostor(broker.port))
                with pytest.raises(NoTls, match="offers no TLS"):
                    await asyncio.wait_for(bus.lost, 30)
            await eventually(lambda: heard)
            assert heard == [b""] * len(heard)
    finally:
        broker.close()


async def test_who_stands_in_a_broker_s_place_from_the_start_does_not_learn_who_we_are(
    authority: Path, unused_tcp_port: int
) -> None:
    settings = BrokerSettings(url=f"nats://{HOST}:{unused_tcp_port}", tls_ca=str(authority / "ca.pem"))
    async with impostor(unused_tcp_port, tls_available=True) as heard:
        with pytest.raises(NoTls):
            async with connect(settings, "test", NoTelemetry()):
                pass
        assert heard == [b""]
