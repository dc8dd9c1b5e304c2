"""A connection counts from its beginning, also while its TLS handshake is not done, which has its time."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from services.gateway.connections import ConnectionLimits
from tests.conftest import Run
from tests.security.serving import Served, served
from tests.support.eventually import eventually
from tests.support.resets import ends_by_reset

FEW = ConnectionLimits(connections=10, client_connections=5, handshake_s=3)
PATIENT = ConnectionLimits(connections=10, client_connections=5, handshake_s=60)


class Authority:
    """A certificate for this machine, and who trusts it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        cert, key = folder / "tls.crt", folder / "tls.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        self.settings = {"GATEWAY_TLS_CERT": str(cert), "GATEWAY_TLS_KEY": str(key)}
        self.trusting = ssl.create_default_context()
        authority.configure_trust(self.trusting)

    async def answer(self, server: Served) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=self.trusting)
        writer.write(b"GET /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        try:
            return await asyncio.wait_for(reader.readline(), 20)
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def hello(trusting: ssl.SSLContext) -> bytes:
    """What a client begins its handshake with."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting.wrap_bio(received, sent, server_hostname="127.0.0.1").do_handshake()
    return sent.read()


async def end_of(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""


def test_clients_that_never_begin_their_handshake_are_counted_and_out_in_time(
    run: Run, authority: Authority
) -> None:
    async def silent() -> None:
        async with served(FEW, **authority.settings) as server:
            held = [await server.open() for _ in range(60)]
            await eventually(lambda: server.refused["full"] == 55, what="all but five refused")
            assert server.door.inside == 5
            await asyncio.gather(*(end_of(reader) for reader, _ in held))
            await eventually(lambda: server.door.inside == 0, what="all out")
            assert server.refused == {"full": 55, "handshake": 5}
            assert b"200" in await authority.answer(server)
            await eventually(lambda: server.door.inside == 0, what="the client to be out")
            for _, writer in held:
                writer.close()

    run(silent())


def test_who_speaks_no_tls_is_out_at_once(run: Run, authority: Authority) -> None:
    async def plain() -> None:
        async with served(PATIENT, **authority.settings) as server:
            reader, writer = await server.open()
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 20)
            await eventually(lambda: server.door.inside == 0, what="the client to be out")
            _, leaving = await server.open()
            await eventually(lambda: server.door.inside == 1, what="a client")
            leaving.close()
            await eventually(lambda: server.door.inside == 0, what="the other to be out")
            assert server.refused == {"handshake": 2}
            writer.close()

    run(plain())


def test_clients_that_break_off_anywhere_leave_nothing_behind(run: Run, authority: Authority) -> None:
    """Some with a reset, in the middle of their first message or behind it."""
    whole = hello(authority.trusting)

    async def breaking_off() -> None:
        async with served(PATIENT, **authority.settings) as server:
            for length in range(0, len(whole) + 1, len(whole) // 40):
                for writes in (b"", whole[:length], whole):
                    _, writer = await server.open()
                    writer.write(writes)
                    if length % 2:
                        ends_by_reset(writer)
                    writer.close()
                await eventually(lambda: server.door.inside == 0, what="the clients to be out")
            assert b"200" in await authority.answer(server)

    run(breaking_off())


def test_a_server_that_ends_waits_for_no_handshake(run: Run, authority: Authority) -> None:
    async def ending() -> None:
        async with served(PATIENT, **authority.settings) as server:
            reader, writer = await server.open()
            await eventually(lambda: server.door.inside == 1, what="a client")
            began = time.monotonic()
        assert time.monotonic() - began < 20
        await end_of(reader)
        assert server.door.inside == 0
        writer.close()

    run(ending())
