"""Sending to personas: what is accepted is stored, and reaches its persona whatever ends meanwhile [A1, A5].

An item is acknowledged by the INBOX stream before anybody is told that it is accepted. Where the outcome is
unknown it is published again under the same id: the scheduler drops an item whose id it holds. A sender that
was answered nothing may do the same with an `id` of its own; once accepted, it is remembered for as long as
the bucket `sent` has room, so that sending it again sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import SubjectFull
from libs.bus.publisher import expecting
from libs.bus.read import last_of
from libs.contracts import streams, subjects
from libs.contracts.inbox import Accepted, Post, SendRequest, SwarmAccepted, SwarmSendRequest
from libs.contracts.personas import PersonaStatus
from libs.contracts.refusals import Conflict, NotFound, Unavailable
from libs.contracts.tokens import shard_of
from services.gateway.items import copy_of_post, item
from services.gateway.peers import Swarm
from services.gateway.storing import store

_FULL_RETRY_AFTER_S = 5
_NAMED_MOST = 3
_BYTES = "bytes"

A = TypeVar("A", Accepted, SwarmAccepted)

_encode = msgspec.json.Encoder().encode


class Sending:
    """Takes what is sent. `now` and `new_id` give the time and ids."""

    def __init__(
        self, bus: Bus, swarm: Swarm, now: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self._bus = bus
        self._swarm = swarm
        self._now = now
        self._new_id = new_id

    async def to_persona(self, persona_id: str, request: SendRequest) -> Accepted:
        """Store an item for a persona. Raises `NotFound`, `Conflict` where it is reaped, or `Unavailable`."""
        record = await self._swarm.record(persona_id)
        if record.status is PersonaStatus.REAPED:
            raise Conflict.reaped(persona_id)
        key = subjects.sent_key(persona_id, request.id) if request.id is not None else None
        if key is not None and (known := await self._noted(key, Accepted)) is not None:
            return known
        item_id = request.id if request.id is not None else self._new_id()
        message = _encode(item(request, persona_id, item_id, self._now()))
        subject = subjects.inbox(shard_of(persona_id), persona_id)
        full = await store(self._bus, f"what was sent to persona {persona_id}", [(subject, message)])
        if full:
            raise _no_room(f"The inbox of persona {persona_id} is full", full[subject])
        return await self._accepted(key, Accepted(item_id=item_id, persona_id=persona_id))

    async def to_swarm(self, swarm_id: str, request: SwarmSendRequest) -> SwarmAccepted:
        """Store one item for each living persona of a swarm. Raises `NotFound` where there is none.

        Raises `Unavailable` where some inbox has no room; the others have it by then.
        """
        key = subjects.posted_key(swarm_id, request.id) if request.id is not None else None
        if key is not None and (known := await self._noted(key, SwarmAccepted)) is not None:
            return known
        members = await self._swarm.members(swarm_id, living=True)
        if not members:
            raise NotFound.swarm(swarm_id)
        post_id = request.id if request.id is not None else self._new_id()
        place = _encode(Post(id=post_id, answers_most=request.answers_most))
        await store(self._bus, f"post {post_id}", [(subjects.post_key(post_id), place)], expecting(0))
        now = self._now()
        by_subject = {subjects.inbox(shard_of(persona_id), persona_id): persona_id for persona_id in members}
        full = await store(
            self._bus,
            f"post {post_id} to swarm {swarm_id}",
            [
                (subject, _encode(copy_of_post(request, persona_id, post_id, now)))
                for subject, persona_id in by_subject.items()
            ],
        )
        if full:
            names = sorted(by_subject[subject] for subject in full)
            raise _no_room(_of_some(names, len(members), post_id), next(iter(full.values())))
        return await self._accepted(
            key, SwarmAccepted(post_id=post_id, swarm_id=swarm_id, personas=len(members))
        )

    async def accepted(self, persona_id: str, item_id: str) -> Accepted:
        """Return that an item with an id of its sender's was accepted. Raises `NotFound`."""
        known = await self._noted(subjects.sent_key(persona_id, item_id), Accepted)
        if known is None:
            raise NotFound.sent(persona_id, item_id)
        return known

    async def _accepted(self, key: str | None, answer: A) -> A:
        """Note what was accepted under an id of its sender's."""
        if key is not None:
            await store(self._bus, "that it was sent", [(key, _encode(answer))])
        return answer

    async def _noted(self, key: str, kind: type[A]) -> A | None:
        found = await last_of(self._bus, streams.SENT, key)
        return msgspec.json.decode(found.data, type=kind) if found is not None and found.data else None


def _no_room(what: str, error: SubjectFull) -> Unavailable:
    """Return which bound is reached, and what helps."""
    if _BYTES in error.description:
        cure = "all inboxes together hold as much as PERPETUA_MAX_INBOX_BYTES allows"
    else:
        cure = f"{streams.INBOX_DEPTH} items wait there, and its scheduler takes none of them: is one up?"
    return Unavailable(f"{what}: {cure}", retry_after=_FULL_RETRY_AFTER_S)


def _of_some(names: list[str], members: int, post_id: str) -> str:
    named = ", ".join(names[:_NAMED_MOST])
    more = f" and {len(names) - _NAMED_MOST} more" if len(names) > _NAMED_MOST else ""
    return (
        f"{members - len(names)} of {members} personas have it; send it again under the id {post_id} for the "
        f"others. The inboxes of {named}{more} are full"
    )
