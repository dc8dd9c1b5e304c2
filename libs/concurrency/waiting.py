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
