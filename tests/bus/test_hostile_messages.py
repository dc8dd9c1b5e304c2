"""What is no message harms nobody: whoever may publish where a process listens cannot deafen it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from libs.bus.connection import connect
from tests.bus.support import Noted
from tests.support.broker import HOST, Broker
from tests.support.eventually import eventually

NEXT = b"PUB here.next 1\r\nx\r\n"


def with_headers(head: bytes, body: bytes = b"x") -> bytes:
    return b"HPUB here.p %d %d\r\n%b%b\r\n" % (len(head), len(head) + len(body), head, body)


UNREADABLE = {
    "a subject that is not UTF-8": b"PUB here.\xff 1\r\nx\r\n",
    "a reply that is not UTF-8": b"PUB here.p \xff 1\r\nx\r\n",
    "a status that is not UTF-8": with_headers(b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
    "a description that is not UTF-8": with_headers(b"NATS/1.0 100 \xff\xff\r\n\r\n"),
    "headers without an end": with_headers(b"NATS/1.0"),
    "headers of one byte": with_headers(b"N"),
}
ODD = {
    "header names and values that are not UTF-8": with_headers(b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n"),
    "no headers where some were announced": with_headers(b""),
    "a subject as long as the broker lets pass": b"PUB here." + b"a" * 4000 + b" 1\r\nx\r\n",
}


@pytest.fixture
def stranger(broker: Broker) -> Iterator[socket.socket]:
    """A client without a library."""
    with socket.create_connection((HOST, broker.port)) as connection:
        connection.recv(4096)
        connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        yield connection


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_left_and_told(
    broker: Broker, stranger: socket.socket, sent: bytes
) -> None:
    noted, came = Noted(), list[str]()
    async with connect(broker.url, "test", noted) as bus:

        async def take(message: object) -> None:
            came.append(message.subject)  # type: ignore[attr-defined]

        await bus.client.subscribe("here.*", cb=take)
        await bus.client.flush()
        stranger.sendall(sent + NEXT)
        await eventually(lambda: came == ["here.next"], what="the next message")
        (fault,) = noted.faults
        assert fault.kind == "unreadable"
        assert fault.subject in ("here.p", "here.\\xff")


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
async def test_what_is_odd_is_taken(broker: Broker, stranger: socket.socket, sent: bytes) -> None:
    noted, came = Noted(), list[str]()
    async with connect(broker.url, "test", noted) as bus:

        async def take(message: object) -> None:
            came.append(message.subject)  # type: ignore[attr-defined]

        await bus.client.subscribe("here.*", cb=take)
        await bus.client.flush()
        stranger.sendall(sent + NEXT)
        await eventually(
            lambda: len(came) == 2 and came[-1] == "here.next", what=f"both messages, {noted.faults}"
        )
    assert noted.faults == []
