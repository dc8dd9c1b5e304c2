"""Connections as the gateway takes them: so many, with heads of bounded size that come in bounded time.

uvicorn bounds neither; this is its own protocol with timers and counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sized
from http import HTTPStatus
from typing import Any, cast

import msgspec
from msgspec import Struct
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.guard import HEADERS
from services.gateway.problems import MEDIA_TYPE, Problem

_HEADER_BYTES = 32
"""What a header costs beyond its bytes, as HTTP/2 counts it: empty ones are not free."""

_NOTHING = memoryview(b"")
_PIECE_BYTES = 2048
"""Parsed at once: a small request takes a hundred times its bytes, so not many may wait for their turn."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one connection, and of all."""

    connections: int
    client_connections: int
    """Of one client address; 0: no limit."""

    head_bytes: int = 32 * 1024
    """Of a request line with its headers, and of a chunked body's trailers."""

    handshake_s: float = 10.0
    """From a connection's beginning to the end of its TLS handshake, and for the words at its end."""

    head_s: float = 10.0
    """From a request's first byte, or the end of the handshake, to the end of its headers."""

    body_s: float = 30.0
    """From there to the end of its body."""

    stalled_s: float = 120.0
    """A client that takes nothing of its answer for so long is gone."""


class Door:
    """Counts who is connected. `refused` is told the reason of each refusal."""

    def __init__(self, limits: ConnectionLimits, refused: Callable[[str], None]) -> None:
        self.limits = limits
        self.refused = refused
        self.inside = 0
        self._clients: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Let a client in, unless there are too many."""
        most = self.limits.client_connections
        if self.inside >= self.limits.connections or (most and self._clients[client] >= most):
            return False
        self.inside += 1
        self._clients[client] += 1
        return True

    def leave(self, client: str) -> None:
        """Let a client out that was let in."""
        self.inside -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class _InTurn(FlowControl):
    """Reads on only while no request waits for its turn: what is sent further ahead stays with the client."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless a request waits."""
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection behind the door.

    A client may send requests before the earlier ones are answered. Of those few are parsed, and no more are
    read, until it is their turn.
    """

    def __init__(self, door: Door, client: str | None, **parts: Any) -> None:
        """`client` is who was let in; None: one too many, to be told so."""
        super().__init__(**parts)
        self.begun = False
        """Whether it has a transport: over TLS, whether the handshake is done."""

        self._door = door
        self._inside = client
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._unparsed = _NOTHING
        self._in_head = True
        self._fed = 0
        """Bytes that came of a head that is not at its end."""

        self._counted = 0
        """Bytes of the head's parts, and of trailers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for what the client says, or say that it is one too many."""
        super().connection_made(transport)
        self.begun = True
        self.flow = _InTurn(transport, self.pipeline)
        if self._inside is None:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; come again later")
        self._arm(self._door.limits.head_s, self._slow_head)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the client out."""
        self._disarm()
        self.resume_writing()
        self.pipeline.clear()
        if self._inside is not None:
            self._door.leave(self._inside)
            self._inside = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and parse them when it is their turn."""
        if self._inside is None or self.transport.is_closing():
            return
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._parse()

    def _parse(self) -> None:
        """Parse what has come, until a request waits for its turn: while one does, no client is too slow."""
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:_PIECE_BYTES], self._unparsed[_PIECE_BYTES:]
            self._feed(piece)
        if not self._unparsed:
            self._unparsed = _NOTHING  # else it would keep what it was cut off
        if self.pipeline or self.transport.is_closing():
            self._disarm()
        elif self._timer is None and not self._in_head:
            self._arm(self._door.limits.body_s, self._slow_body)

    def _feed(self, piece: memoryview) -> None:
        """Parse some bytes; those of a head are counted and timed."""
        if self._in_head:
            self._fed += len(piece)
            if self._timer is None:
                self._arm(self._door.limits.head_s, self._slow_head)
        super().data_received(cast("bytes", piece))
        if self._in_head and self._fed > self._door.limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)

    def on_url(self, url: bytes) -> None:
        """Count a part of the request line."""
        self._counted += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; one beyond the bound is not kept."""
        self._counted += len(name) + len(value) + _HEADER_BYTES
        if self._counted <= self._door.limits.head_bytes:
            super().on_header(name, value)
        elif not self._in_head:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Begin the request, if its head is not too large, and time its body."""
        if self.transport.is_closing():
            return None
        self._in_head, self._fed = False, 0
        self._arm(self._door.limits.body_s, self._slow_body)
        if self._counted > self._door.limits.head_bytes:
            return self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)
        super().on_headers_complete()
        return None

    def on_body(self, body: bytes) -> None:
        """Take a part of a body that somebody waits for."""
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Be ready for the next request."""
        self._disarm()
        self._in_head, self._counted = True, 0
        if self.cycle is not None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not keep up with its answer: time it."""
        super().pause_writing()
        if self._stalled is None:
            self._watch_writing()

    def resume_writing(self) -> None:
        """The client keeps up again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self.flow is not None:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    @property
    def _too_large(self) -> str:
        return f"request line and headers are larger than {self._door.limits.head_bytes} bytes"

    def _slow_head(self) -> None:
        if self._fed:
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the headers did not come in time")
        self._door.refused("silent")
        return self.transport.close()

    def _slow_body(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time")

    def _watch_writing(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self._door.limits.stalled_s, self._give_up, waiting)

    def _give_up(self, waiting: int) -> None:
        """Go on waiting for a client that has taken something of what waits for it."""
        if self.transport.get_write_buffer_size() < waiting:
            return self._watch_writing()
        self._door.refused("stalled")
        return self.transport.abort()

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem document and close. Where another answer comes first, only close."""
        self._disarm()
        self._door.refused(status.phrase)
        if self.transport.is_closing():
            return None
        under_way = (
            self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        )
        if under_way or self.pipeline:
            return self.transport.abort()
        body = msgspec.json.encode(Problem(title=status.phrase, status=status, detail=detail))
        head = [b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())]
        head += [b"%b: %b\r\n" % pair for pair in HEADERS]
        head.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE.encode(), len(body)))
        self.transport.write(b"".join(head) + b"connection: close\r\n\r\n" + body)
        return self.transport.close()
