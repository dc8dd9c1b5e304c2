"""The client library, but for what it reads, sends and flushes, and to whom it speaks at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import nats.aio.client
from nats.aio.client import PING_PROTO
from nats.aio.transport import TcpTransport

from libs.bus.access import NoTls
from libs.bus.errors import TooLarge

_HEAD_BYTES = len(b"NATS/1.0\r\n\r\n")
_LINE_BYTES = len(b": \r\n")


class UnreadableMessage(Exception):
    """Somebody has sent what is no message: its subject, reply or headers are not UTF-8, or cut short."""

    def __init__(self, subject: bytes, reason: str) -> None:
        super().__init__(f"a message that cannot be read was left: {reason}")
        self.subject = subject.decode("ascii", "backslashreplace")


class Client(nats.aio.client.Client):
    """Leaves what cannot be read, and tells of it; once `flush` returns, the broker has all that was sent.

    The library's own reader ends at an unreadable message for good and says so to nobody: whoever may publish
    where a process listens could deafen it. Its flush sends the ping ahead of what waits to be written, so
    that a subscription made just before may not be there yet when it returns. And it speaks in clear to a
    broker that offers no TLS, whatever it was told of certificates: to anybody who took the broker's place.
    And of each try to which a broker says nothing it leaves a socket open. Of what is too large it counts no
    headers, and the broker ends the connection over them. Nor does it know what uvloop says of a connection
    that has just been closed: its flusher ended over that without a word, and whoever sent next crashed.
    """

    def __init__(self, tls_url: str | None = None) -> None:
        super().__init__()
        self._transport = _Transport()  # type: ignore[no-untyped-call]
        self._tls_url = tls_url
        """The broker's address where TLS is demanded of it."""

    def _connect_command(self) -> bytes:
        """Return the first that a broker hears of us, also after a reconnect. Raises `NoTls`."""
        if self._tls_url is not None and not self._server_info.get("tls_required"):
            raise NoTls(self._tls_url)
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        """Greet the broker. A connection on which that fails is closed: the library forgets it, open."""
        try:
            await super()._process_connect_init()
        except BaseException:
            assert self._transport is not None
            self._transport.close()  # type: ignore[no-untyped-call]
            raise

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish; requests and answers come by here, too. Raises `TooLarge`: nothing is sent then."""
        weight = len(payload) + (_weight(headers) if headers else 0)
        self.refuse_too_large(subject, weight)
        await super().publish(subject, payload, reply, dict(headers) if headers else None)

    def refuse_too_large(self, subject: str, weight: int) -> None:
        """Raise `TooLarge` for a message of so many bytes that the broker would end the connection over."""
        if weight > self.max_payload:
            raise TooLarge.of(subject, weight, self.max_payload)

    async def _attempt_reconnect(self) -> None:
        try:
            await super()._attempt_reconnect()
        except NoTls as error:
            self._pending, self._pending_data_size = [], 0  # closing would write it
            await self._error_cb(error)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, LookupError) as error:
            await self._error_cb(UnreadableMessage(subject, str(error)))

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send a ping behind all that waits to be written."""
        self._pongs.append(future if future is not None else asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()


class _Transport(TcpTransport):
    """Says of a closed connection that it is lost, on every event loop."""

    def __bool__(self) -> bool:
        """Whether it is there: else the library makes one of its own before it connects."""
        return True

    def write(self, payload: bytes) -> None:
        with _as_lost():
            super().write(payload)  # type: ignore[no-untyped-call]

    def writelines(self, payload: list[bytes]) -> None:
        with _as_lost():
            super().writelines(payload)  # type: ignore[no-untyped-call]


@contextmanager
def _as_lost() -> Iterator[None]:
    """Raise `ConnectionResetError` for the `RuntimeError` of uvloop."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from error


def _weight(headers: Mapping[str, str]) -> int:
    """Return the most bytes that headers take before the body."""
    return _HEAD_BYTES + sum(
        len(name.encode()) + len(value.encode()) + _LINE_BYTES for name, value in headers.items()
    )
