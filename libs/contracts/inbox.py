"""The inbox of a persona: what is sent to it, what it holds, and what became of it [A1–A5, H15].

Times are wall times with their distance from UTC. Priorities cross the wire as 0 to 1; within a scheduler
they are integer hundredths.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

from msgspec import Meta, Struct

from libs.contracts.limits import (
    ANSWERS_MOST,
    Content,
    Domain,
    ItemId,
    Mentions,
    Priority,
    SourceId,
    Timestamp,
)

CHAT = "chat"
"""The domain of an item whose sender names none."""

Count = Annotated[int, Meta(ge=0)]


class SendRequest(Struct, frozen=True, kw_only=True):
    """Something for a persona, as a client sends it [A1]."""

    content: Content
    domain: Domain = CHAT
    """What kind of thing it is: chat, vision, game, or any name. The loop never looks inside."""

    source_id: SourceId = ""
    priority: Priority | None = None
    """Left out, the persona's scheduler works it out [A3]."""

    mentions: Mentions = []
    """Names of personas, with or without `@`, beside those that the content mentions."""

    timestamp: Timestamp | None = None
    """When it happened; left out, when it was received."""

    id: ItemId | None = None
    """Sent again under the same id while it waits, it is there once. Left out, it gets a UUID."""

    once: bool = False
    """Sent again under its `id` it is not sent, also after it was handled: of the newest 100 000 such."""

    def __post_init__(self) -> None:
        if self.once and self.id is None:
            raise ValueError("Expected an `id` with `once`")


class InboxItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of the INBOX stream: accepted, and not lost until a thought that took it up is stored."""

    id: str
    persona_id: str
    content: Content
    domain: Domain = CHAT
    source_id: SourceId = ""
    timestamp: Timestamp
    priority: Priority | None = None
    """As its sender gave it."""

    mentions: Mentions = []
    post_id: str | None = None
    """The swarm-wide post that this is one persona's copy of."""

    answers_most: Annotated[int, Meta(ge=1)] = ANSWERS_MOST
    """How many personas may answer that post [A5]."""

    traceparent: str | None = None
    """The trace of the call that sent it, where that is sampled."""


class SwarmSendRequest(SendRequest, frozen=True, kw_only=True):
    """Something for every persona of a swarm [A1, A5]."""

    answers_most: Annotated[int, Meta(ge=1, le=1000)] = ANSWERS_MOST
    """How many personas may answer it."""


class Accepted(Struct, frozen=True, kw_only=True):
    """What was sent is stored, and will reach its persona."""

    item_id: str
    persona_id: str


class SwarmAccepted(Struct, frozen=True, kw_only=True):
    """What was sent is stored for each persona that the swarm had."""

    post_id: str
    swarm_id: str
    personas: Count


def copy_id(post_id: str, persona_id: str) -> str:
    """Return the id of one persona's copy of a post; it is the same however often the post is sent."""
    return str(uuid5(NAMESPACE_URL, f"{post_id}/{persona_id}"))


class PostAnswer(Struct, frozen=True, kw_only=True):
    """What a persona has answered a swarm-wide post."""

    persona_id: str
    name: str
    response: str
    """Its first 500 characters."""


class Asked(Struct, frozen=True, kw_only=True):
    """For which copy of a post a place was asked, and by whom."""

    boot: str
    """Boot id of the scheduler: while a persona has a place unused, this one alone gives it back."""

    sequence: int
    """The copy's place in the INBOX stream."""


class Post(Struct, frozen=True, kw_only=True):
    """A value of the `posts` bucket: who may answer a swarm-wide post, and who has. Changed by revision."""

    id: str
    answers_most: int
    granted: list[str] = []
    """Personas that may answer, those that have among them; who skips gives the place back."""

    answers: list[PostAnswer] = []
    asked: dict[str, Asked] = {}
    """By persona, of those that have a place."""

    wanted: bool = False
    """Somebody has asked and found no place free: places are not to be left unused."""


class PostDecision(Struct, frozen=True, kw_only=True):
    """What a persona with a place has decided on a post, from its thought until the post says it."""

    post_id: str
    persona_id: str
    sequence: int
    """Its copy's place in the INBOX stream."""

    answer: PostAnswer | None
    """None: the place is free again."""


class HeldItem(Struct, frozen=True, kw_only=True):
    """An item in an inbox, as it is shown."""

    id: str
    domain: str
    source_id: str
    content: str
    timestamp: datetime
    base_priority: float
    """0 to 1, fixed when it arrived [A3]."""

    effective_priority: float
    """0 to 1.5: the base priority and what waiting has added [A4]."""

    waited_s: float
    attempts: Count
    """Thoughts that took it up and came to nothing."""

    taken_up: bool
    """A thought that is under way has it in its prompt."""


class Outcome(StrEnum):
    """What became of an item that a thought took up [A5]."""

    HANDLED = "handled"
    """Answered, or read and left without an answer: it leaves the inbox."""

    FAILED = "failed"
    """The thought came to nothing; the item is taken up again, later."""

    ASIDE = "aside"
    """It has failed as often as may be: it leaves the inbox, and is announced."""

    RETURNED = "returned"
    """Nothing tried it: the thought was withdrawn or no model could be asked. It counts as no attempt."""


class DropReason(StrEnum):
    """Why an item left an inbox without having been handled."""

    FULL = "full"
    """It was the worst of a full inbox and the newcomer [A2]."""

    FAILED = "failed"
    """It was set aside [A5]."""

    UNKNOWN_PERSONA = "unknown_persona"
    PERSONA_REAPED = "persona_reaped"


class InboxReceivedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `inbox_received`."""

    id: str
    domain: str
    source_id: str
    timestamp: datetime
    priority: float
    """0 to 1: the base priority, the sender's or the one worked out."""

    content_excerpt: str
    post_id: str | None


class ItemOutcome(Struct, frozen=True, kw_only=True):
    """An item that a thought took up, and what became of it."""

    id: str
    source_id: str
    outcome: Outcome


class InboxHandledPayload(Struct, frozen=True, kw_only=True):
    """The payload of `inbox_handled`: the decision of the thought that took items up [H15]."""

    thought_count: int
    items: list[ItemOutcome]
    """In the order in which the prompt had them."""

    will_respond: bool | None
    """Null where the model's answer was no decision; `error` says why."""

    response: str | None
    """Null where there is none: the persona skips."""

    error: str | None


class InboxDroppedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `inbox_dropped`: the item whole, so that nothing is silently gone."""

    id: str
    domain: str
    source_id: str
    content: str
    timestamp: datetime
    priority: float | None
    """As its sender gave it."""

    post_id: str | None
    reason: DropReason
    attempts: Count
    error: str | None
    """What the last attempt ended with."""
