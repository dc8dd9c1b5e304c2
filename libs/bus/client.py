"""The client library, but for messages that it cannot read: they end nothing."""

from __future__ import annotations

import nats.aio.client


class UnreadableMessage(Exception):
    """Somebody has sent what is no message: its subject, reply or headers are not UTF-8, or cut short."""

    def __init__(self, subject: bytes, reason: str) -> None:
        super().__init__(f"a message that cannot be read was left: {reason}")
        self.subject = subject.decode("ascii", "backslashreplace")


class Client(nats.aio.client.Client):
    """Leaves what cannot be read, and tells of it.

    The library's own reader ends at such a message for good and says so to nobody: whoever may publish where
    a process listens could deafen it.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, LookupError) as error:
            await self._error_cb(UnreadableMessage(subject, str(error)))
