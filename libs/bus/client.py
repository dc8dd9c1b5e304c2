"""The client library, but for messages that it cannot read, which end nothing, and for what a flush is."""

from __future__ import annotations

import asyncio

import nats.aio.client
from nats.aio.client import PING_PROTO


class UnreadableMessage(Exception):
    """Somebody has sent what is no message: its subject, reply or headers are not UTF-8, or cut short."""

    def __init__(self, subject: bytes, reason: str) -> None:
        super().__init__(f"a message that cannot be read was left: {reason}")
        self.subject = subject.decode("ascii", "backslashreplace")


class Client(nats.aio.client.Client):
    """Leaves what cannot be read, and tells of it; once `flush` returns, the broker has all that was sent.

    The library's own reader ends at an unreadable message for good and says so to nobody: whoever may publish
    where a process listens could deafen it. Its flush sends the ping ahead of what waits to be written, so
    that a subscription made just before may not be there yet when it returns.
    """

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
