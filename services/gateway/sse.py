"""A client's stream: where it begins, and its place among the others [5.3]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from services.gateway.event_log import Held
from services.gateway.feed import Feed, comment

RETRY_MS = 1000
"""How long, in milliseconds, a browser waits before it connects again."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
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


class EventStream(Stream):
    """The answer to one client. It takes a place of the feed as it begins, and gives it back as it ends."""

    def __init__(self, feed: Feed, after: int, remark: str | None, *, heartbeat: bool) -> None:
        frames = _frames(feed, after, remark, heartbeat=heartbeat)
        super().__init__(frames, media_type="text/event-stream", headers=_HEADERS)
        self._feed = feed

    def to_asgi_response(self, *args: Any, **parts: Any) -> ASGIResponse:
        """Return the answer as it is sent; it raises `Unavailable`, instead, where there is no place."""
        answer = super().to_asgi_response(*args, **parts)

        async def placed(scope: Scope, receive: Receive, send: Send) -> None:
            with self._feed.place():
                await answer(scope, receive, send)

        return cast("ASGIResponse", placed)


async def _frames(feed: Feed, after: int, remark: str | None, *, heartbeat: bool) -> AsyncIterator[bytes]:
    """Yield the bytes of one client's stream.

    A browser hides comments from its page. Who asks for heartbeats gets them in the comments' place and one
    at the beginning, so that it can tell a quiet stream from a dead one.
    """
    alive = _heartbeat(feed.keep_alive) if heartbeat else comment("keep-alive")
    yield f"retry: {RETRY_MS}\n".encode() + comment(remark or "connected") + (alive if heartbeat else b"")
    async for data in feed.frames(after, alive):
        yield data


def _heartbeat(seconds: float) -> bytes:
    """Return the frame that says within how many seconds the next one comes. It has no id: it is no event."""
    return f"event: heartbeat\ndata: {seconds:g}\n\n".encode()
