"""Where a client's stream begins [5.3]."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.gateway.event_log import Held
from services.gateway.feed import Feed, comment

RETRY_MS = 1000
"""How long, in milliseconds, a browser waits before it connects again."""

_SEQUENCE_DIGITS = 18


def beginning(wanted: str | None, there: Held) -> tuple[int, str | None]:
    """Return the sequence after which a stream begins, and a remark for the client if there is one.

    Without an id it begins with the next event. `0` begins with the oldest event held. An id that is no
    number, or one that no event has yet, begins live.
    """
    if wanted is None:
        return there.last, None
    text = wanted.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _SEQUENCE_DIGITS):
        return there.last, "the last event id is not a sequence of this stream; live from here"
    sequence = int(text)
    if sequence > there.last:
        return there.last, f"no event has the id {sequence} yet; live from here"
    if sequence == 0 and there.first > there.last:
        return there.last, None
    return sequence, None


async def event_stream(feed: Feed, after: int, remark: str | None) -> AsyncIterator[bytes]:
    """Yield the bytes of one client's stream."""
    yield f"retry: {RETRY_MS}\n".encode() + comment(remark or "connected")
    async for data in feed.frames(after):
        yield data
