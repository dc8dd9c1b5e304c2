"""Waiting with a limit.

`asyncio.wait_for` of Python 3.11 loses a cancellation that comes as the awaited thing completes;
`asyncio.timeout` does not.
"""

from __future__ import annotations

import asyncio


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether an event is set within so many seconds (None: wait for ever)."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class BackOff:
    """The pauses between tries that keep failing: each twice the last, up to a cap, in seconds [H10]."""

    def __init__(self, first: float, most: float) -> None:
        self._first = self._pause = first
        self._most = most

    def next(self) -> float:
        """Return the pause before the next try."""
        pause = self._pause
        self._pause = min(2 * pause, self._most)
        return pause

    def reset(self) -> None:
        """Begin anew: a try has succeeded."""
        self._pause = self._first
