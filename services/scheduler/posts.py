"""Swarm-wide posts as the bucket `posts` has them, changed under the revision that was read [A5]."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, WrongLastSequence
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.publisher import expecting
from libs.bus.read import last_of, stream_state
from libs.bus.telemetry import Telemetry
from libs.contracts import streams, subjects
from libs.contracts.inbox import Post
from services.scheduler.places import told

log = structlog.get_logger("posts")

_REMEMBERED = 1000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Post).decode


class Posts:
    """Changes posts, and follows what others make of them: the 1000 that changed last are known."""

    def __init__(self, bus: Bus, telemetry: Telemetry, changed: Callable[[Post | None, Post], None]) -> None:
        """`changed` is told a post as it was known, and as it is."""
        self._bus = bus
        self._telemetry = telemetry
        self._changed = changed
        self._known: dict[str, Post] = {}
        self._revisions: dict[str, int] = {}

    def known(self) -> list[Post]:
        """Return the posts that are known."""
        return list(self._known.values())

    def get(self, post_id: str) -> Post | None:
        """Return a post as it was seen last, if it is known."""
        return self._known.get(post_id)

    def answers(self, post_id: str) -> list[str]:
        """Return what is known of the newest answers to a post, the oldest first, each with who gave it."""
        post = self._known.get(post_id)
        return told(post) if post is not None else []

    async def change(self, post_id: str, change: Callable[[Post], Post]) -> Post | None:
        """Change a post and return it as it is then; None where it is forgotten. Raises `BusError`.

        `change` may be called again, with what another has made of the post meanwhile.
        """
        subject = subjects.post_key(post_id)
        while True:
            found = await last_of(self._bus, streams.POSTS, subject)
            post = _read(found.data) if found is not None else None
            if found is None or post is None:
                return None
            changed, revision = change(post), found.sequence
            if changed != post:
                try:
                    revision = await self._bus.publish(subject, _encode(changed), expecting(revision))
                except WrongLastSequence:
                    continue
            self._note(changed, revision)
            return changed

    async def run(self) -> None:
        """Follow what becomes of posts, until cancelled."""
        state = await until_answered(
            self._bus, "reading the end of posts", lambda: stream_state(self._bus, streams.POSTS)
        )
        loop = MessageLoop("posts", bytes, self._take, self._telemetry)
        begin = max(int(state["last_seq"]) - _REMEMBERED, 0)
        await Follower(self._bus, streams.POSTS, loop, after=begin).run()

    async def _take(self, data: bytes, message: StreamMessage) -> None:
        post = _read(data)
        if post is not None:
            self._note(post, message.sequence)

    def _note(self, post: Post, revision: int) -> None:
        """Remember a post, unless a later state of it is known."""
        if revision <= self._revisions.get(post.id, 0):
            return
        before = self._known.pop(post.id, None)
        self._known[post.id], self._revisions[post.id] = post, revision
        if len(self._known) > _REMEMBERED:
            oldest = next(iter(self._known))
            del self._known[oldest], self._revisions[oldest]
        if before != post:
            self._changed(before, post)


def _read(data: bytes) -> Post | None:
    try:
        return _decode(data)
    except UNREADABLE as error:
        log.warning("no_post", error=str(error))
        return None
