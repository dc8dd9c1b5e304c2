"""When others can be heard: only then does their silence count [3.3]."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate

_EVERY_S = 1.0
_DEAF_S = 2.0
"""What is sent to oneself comes back within milliseconds; a process that is busy for a second is not deaf."""

_BREAKS = 64


class Earshot:
    """Tells silence from deafness: this process sends to itself, and listens whether that comes back.

    It does not while the broker is away or stopped, nor while this process is stopped, nor while `gate`, by
    which the words of thinkers come too, has no room. A thinker says every few seconds that it thinks; what
    it has said meanwhile may be lost, or not be read yet. While `wanted` says that nobody has anything to
    say, nothing is sent. Of a thinker's own link to the broker it tells nothing. Times are monotonic, in
    seconds.
    """

    def __init__(self, bus: Bus, gate: Gate, wanted: Callable[[], bool]) -> None:
        self._bus = bus
        self._gate = gate
        self._wanted = wanted
        self._clock = asyncio.get_running_loop().time
        self._connection = bus.connection_number
        self._since = self._came_at = self._clock()
        self._breaks: deque[tuple[float, float]] = deque(maxlen=_BREAKS)
        """When it was deaf, from when to when: as often as this, then the oldest is forgotten."""

    def since(self) -> float:
        """Return the time since which it was never deaf: now, where it is."""
        return self._clock() if self._is_deaf() else self._since

    def heard_for(self, at: float) -> float:
        """Return for how many seconds since a time it was not deaf."""
        until = self._came_at if self._is_deaf() else self._clock()
        heard = max(until - at, 0.0)
        for begin, end in reversed(self._breaks):
            if end <= at:
                break
            heard -= end - max(begin, at)
        return heard

    async def run(self) -> None:
        """Listen until cancelled."""
        subject = self._bus.client.new_inbox()
        async with self._bus.subscribed(subject, self._came):
            while True:
                if self._bus.connected and self._wanted():
                    with suppress(nats.errors.Error, OSError):  # it is lost this moment
                        await self._bus.client.publish(subject, b"%d" % self._bus.connection_number)
                await asyncio.sleep(_EVERY_S)

    async def _came(self, message: Msg) -> None:
        if self._gate.full or not message.data.isdigit():  # words of thinkers wait; it is nobody's of ours
            return
        now = self._clock()
        if self._is_deaf():
            self._breaks.append((self._came_at, now))
            self._since = now
        self._came_at, self._connection = now, int(message.data)

    def _is_deaf(self) -> bool:
        return self._connection != self._bus.connection_number or self._clock() - self._came_at > _DEAF_S
