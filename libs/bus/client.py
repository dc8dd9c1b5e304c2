"""The client library, but for messages that it cannot read, which end nothing, and for what a flush is."""

from __future__ import annotations

import nats.aio.client


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

    async def flush(self, timeout: int = nats.aio.client.DEFAULT_FLUSH_TIMEOUT) -> None:
        """Write what waits, then wait for the broker's answer to a ping, for so many seconds."""
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)
