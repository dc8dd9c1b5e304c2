"""Swarm-wide posts: no more than so many personas answer one, and the others see what they said [A5].

Who may answer stands in the bucket `posts`, changed under the revision that was read. First come by priority
and relevance: the less a post concerns a persona, the later it asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
import structlog
from msgspec import structs

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, BusError, WrongLastSequence
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.publisher import expecting
from libs.bus.read import last_of, stream_state
from libs.bus.telemetry import Telemetry
from libs.contracts import streams, subjects
from libs.contracts.inbox import Post, PostAnswer
from libs.contracts.journal import ThoughtEntry
from libs.contracts.thoughts import OwnEventType

log = structlog.get_logger("posts")

P = TypeVar("P")

HOLD_BACK_S = 0.5
"""So many seconds later than the most concerned does the least concerned persona ask."""

_REMEMBERED = 1000
_TRIES = 20
_RETRY_S = 0.05

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Post).decode


class _Named(msgspec.Struct):
    name: str


class _Thought(msgspec.Struct):
    persona: _Named


class _Decided(msgspec.Struct):
    response: str | None


class _Event(msgspec.Struct, Generic[P]):
    payload: P


_decode_thought = msgspec.json.Decoder(_Event[_Thought]).decode
_decode_decided = msgspec.json.Decoder(_Event[_Decided]).decode


def answer_of(thought: ThoughtEntry) -> tuple[str, str, str | None]:
    """Return a persona's id and name, and what its thought has answered; None where it has not."""
    name = _decode_thought(thought.events[0][1]).payload.persona.name
    decided = next((event for kind, event in thought.events if kind == OwnEventType.INBOX_HANDLED), None)
    response = _decode_decided(decided).payload.response if decided is not None else None
    return thought.persona_id, name, response


class Posts:
    """Asks for the grant to answer, and notes answers."""

    def __init__(self, bus: Bus, telemetry: Telemetry, answered: Callable[[str], None]) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._answered = answered
        self._known: dict[str, Post] = {}

    def answers(self, post_id: str) -> list[str]:
        """Return what is known of the answers to a post, the oldest first, each with who gave it."""
        post = self._known.get(post_id)
        return [f"{one.name}: {one.response}" for one in post.answers] if post is not None else []

    async def ask(self, post_id: str, persona_id: str, base: int) -> bool:
        """Whether a persona may answer a post; `base` is its priority for it, in hundredths.

        Asked again, the answer is the same. A post that is forgotten may be answered by nobody.
        """
        await asyncio.sleep(HOLD_BACK_S * (100 - base) / 100)

        def grant(post: Post) -> Post:
            if persona_id in post.granted or len(post.granted) >= post.answers_most:
                return post
            return structs.replace(post, granted=[*post.granted, persona_id])

        changed = await self._change(post_id, grant)
        return changed is not None and persona_id in changed.granted

    async def settle(self, post_id: str, persona_id: str, name: str, response: str | None) -> None:
        """Note a persona's answer, or give its place back where it has none."""

        def note(post: Post) -> Post:
            if response is None:
                return structs.replace(post, granted=[one for one in post.granted if one != persona_id])
            answer = PostAnswer(persona_id=persona_id, name=name, response=response)
            others = [one for one in post.answers if one.persona_id != persona_id]
            return structs.replace(post, answers=[*others, answer])

        await self._change(post_id, note)

    async def run(self) -> None:
        """Follow what becomes of posts, until cancelled."""
        state = await until_answered(
            self._bus, "reading the end of posts", lambda: stream_state(self._bus, streams.POSTS)
        )
        loop = MessageLoop("posts", bytes, self._take, self._telemetry)
        begin = max(int(state["last_seq"]) - _REMEMBERED, 0)
        await Follower(self._bus, streams.POSTS, loop, after=begin).run()

    async def _take(self, data: bytes, _: StreamMessage) -> None:
        try:
            self._note(_decode(data))
        except UNREADABLE as error:
            log.warning("no_post", error=str(error))

    def _note(self, post: Post) -> None:
        before = self._known.pop(post.id, None)
        self._known[post.id] = post
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        if before is None or len(before.answers) != len(post.answers):
            self._answered(post.id)

    async def _change(self, post_id: str, change: Callable[[Post], Post]) -> Post | None:
        """Change a post and return it as it is then; None where it is forgotten, or nobody answers."""
        subject = subjects.post_key(post_id)
        for _ in range(_TRIES):
            try:
                found = await last_of(self._bus, streams.POSTS, subject)
                if found is None:
                    return None
                post = _decode(found.data)
                changed = change(post)
                if changed != post:
                    await self._bus.publish(subject, _encode(changed), expecting(found.sequence))
                return changed
            except WrongLastSequence:
                continue
            except UNREADABLE:
                return None
            except BusError as error:
                log.debug("post_not_changed", post=post_id, error=str(error))
                await asyncio.sleep(_RETRY_S)
        return None
