"""Reading server-sent events off a socket, as slowly as a test likes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Frame:
    """One event, or a comment (`name` is then `:`)."""

    name: str
    identifier: int | None
    data: str


class Stream:
    """A connection to the event stream. Nothing is read until `frames` is iterated."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect((parts.hostname or "", parts.port or 80))
        except OSError:
            self._socket.close()
            raise
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._buffer = b""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def head(self) -> str:
        """Return status line and headers."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode()

    def frames(self) -> Iterator[Frame]:
        """Yield what comes. Call `head` first."""
        text = b""
        for chunk in self._chunks():
            text += chunk
            while b"\n\n" in text:
                block, _, text = text.partition(b"\n\n")
                yield _parse(block.decode())

    def _chunks(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._buffer:
                self._receive()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            length = int(size, 16)
            if length == 0:
                return
            while len(self._buffer) < length + 2:
                self._receive()
            chunk, self._buffer = self._buffer[:length], self._buffer[length + 2 :]
            yield chunk

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the stream was closed")
        self._buffer += data


def _parse(block: str) -> Frame:
    fields = dict(line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":"))
    comments = [line[2:] for line in block.splitlines() if line.startswith(":")]
    if "data" not in fields:
        return Frame(":", None, " ".join(comments))
    identifier = fields.get("id")
    return Frame(fields.get("event", "message"), int(identifier) if identifier else None, fields["data"])
