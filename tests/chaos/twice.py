"""Listens to what services say to each other, and says it once more."""

from __future__ import annotations

from collections import deque

from nats.aio.msg import Msg

from libs.bus.connection import Bus

HEARD = (
    "think.*",
    "j.*",
    "perpetua.in.>",
    "perpetua.result.*",
    "perpetua.grant.*",
    "perpetua.thinking.*",
    "perpetua.roll_up.*",
    "perpetua.roll_up_credits.*",
    "perpetua.position",
    "perpetua.halted",
)
_KEPT = 400


class Twice:
    """The newest messages of each kind, with their headers; answers to what is repeated go nowhere."""

    def __init__(self, bus: Bus) -> None:
        self.repeated = 0
        self._bus = bus
        self._kept: dict[str, deque[Msg]] = {subject: deque(maxlen=_KEPT) for subject in HEARD}

    async def listen(self) -> None:
        for subject, kept in self._kept.items():
            await self._bus.client.subscribe(subject, cb=_keeper(kept))

    async def repeat(self) -> None:
        """Deliver everything that is kept once more, in its order."""
        for kept in self._kept.values():
            for message in list(kept):
                headers = dict(message.headers) if message.headers else None
                inbox = self._bus.client.new_inbox()
                await self._bus.client.publish(message.subject, message.data, reply=inbox, headers=headers)
                self.repeated += 1


def _keeper(kept: deque[Msg]):  # type: ignore[no-untyped-def]
    async def keep(message: Msg) -> None:
        kept.append(message)

    return keep
