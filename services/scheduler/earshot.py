"""Since when others can be heard without a break: silence counts only from then on [3.3]."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg

from libs.bus.connection import Bus

_EVERY_S = 0.25
_DEAF_S = 2.0
"""What is sent to oneself comes back within milliseconds; a process that is busy for a second is not deaf."""


class Earshot:
    """Tells silence from deafness: this process sends to itself, and listens whether that comes back.

    It does not while the broker is away or stopped, nor while this process is stopped. A thinker says every
    few seconds that it thinks; what it has said meanwhile may be lost, or not be read yet.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._clock = asyncio.get_running_loop().time
        self._connection = bus.connection
        self._since = self._came_at = self._clock()

    def since(self) -> float:
        """Return the monotonic time in seconds since which all is heard: now, where nothing is."""
        return self._clock() if self._is_deaf() else self._since

    async def run(self) -> None:
        """Listen until cancelled."""
        subject = self._bus.client.new_inbox()
        async with self._bus.subscribed(subject, self._came):
            while True:
                if self._bus.connected:
                    with suppress(nats.errors.Error):  # it is lost this moment
                        await self._bus.client.publish(subject)
                await asyncio.sleep(_EVERY_S)

    async def _came(self, _: Msg) -> None:
        now = self._clock()
        if self._is_deaf():
            self._since = now
        self._came_at, self._connection = now, self._bus.connection

    def _is_deaf(self) -> bool:
        return self._connection != self._bus.connection or self._clock() - self._came_at > _DEAF_S
