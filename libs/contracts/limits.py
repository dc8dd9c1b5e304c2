"""Every bound of the system that more than one process relies on, with its unit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

IMPORTED_AT_ONCE = 500
"""Personas that one request may import."""

SHARDS = 64
"""Personas are spread over this many shards, each with one journal subject and one owner."""

JOURNAL_DEPTH = 256
"""Messages one journal subject may hold; a full subject refuses, it never evicts."""

MARKER_ROOM = 8
"""Places of a journal subject that its owner leaves free for the registry's unconditional markers."""

RECORD_BYTES = 512 * 1024
"""The most a journal record, a persona's part of a checkpoint, a part of its accounts or a chunk of work may
weigh, in bytes."""

PAGE_BYTES = 32 * 1024
"""What a checkpoint page of several personas may weigh, in bytes: for one's thought all of it is stored."""

GRANT_BYTES = 768 * 1024
"""The most that the items of one grant may weigh together, in bytes; what is more follows in another."""

THOUGHT_BYTES = 128 * 1024
"""The most that all events of one thought may weigh together, in bytes; more is settled as a fallback."""

EVENT_BYTES = 64 * 1024
"""The most one event or snapshot may weigh in its stream, in bytes."""

PAYLOAD_BYTES = 8 * 1024 * 1024
"""What the broker has to take in one message (`max_payload`), in bytes: no message of ours is larger."""

CAPTURE_BYTES = 256 * 1024
"""The most a captured thought may weigh, in bytes; larger ones are counted as lost."""

CHUNK_PERSONAS = 96
"""Personas whose thoughts travel in one message of the work queue."""

CONTEXT_EVENTS = 8
"""Events that a persona's context holds at most."""

PRESENCE_TTL_S = 5.0
"""A process that has not renewed its presence for this long, in seconds, counts as gone."""

ACK_WAIT_S = 6.0
"""Work that no thinker has claimed to be busy with for this long, in seconds, goes to another."""

MAX_DELIVER = 4
"""How often a thought is given to a thinker before it is settled as dead."""

TOGETHER = 2
"""How often it is given together with others. From then on it is a message of its own, and thought alone."""

INTERVAL_DEFAULT_MS = 2000
"""Between two thoughts of a persona, in milliseconds, where nobody says otherwise [4.1]."""

STOP_GRACE_MS = 2_000
"""How long, in milliseconds, a stop waits for thoughts in flight before it settles them as withdrawn."""

INTERVAL_FLOOR_MS = 100
"""The shortest loop interval, in milliseconds; shorter requests are raised to it."""

INTERVAL_CEILING_MS = 24 * 60 * 60 * 1000
"""The longest loop interval, in milliseconds: a day."""

BODY_BYTES = 1024 * 1024
"""The largest request body the gateway accepts, in bytes."""

DEPENDENCIES = 100
"""Personas that one waits for at most, and that one request may have wait for it."""

INBOX_ITEMS = 1000
"""Items that a persona's inbox holds at most [A2]."""

ITEMS_A_THOUGHT = 10
"""Items that one thought takes up at most [A5]."""

ITEM_ATTEMPTS = 3
"""How often a thought takes an item up that comes to nothing, before the item is set aside [A5]."""

MENTIONS = 32
"""Names that one inbox item may mention apart from its content."""

NOVELTY_THRESHOLD = 0.3
"""Less novelty than this repeats, unless a setting says otherwise: of 100 words no more than five changed."""

ANSWERS_MOST = 2
"""How many personas answer a swarm-wide post, unless its sender says otherwise [A5]."""

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1

_NO_CONTROLS = r"^(?!\.{1,2}(?![\s\S]))[^\x00-\x1f\x7f-\x9f]+(?![\s\S])"

Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_NO_CONTROLS,
        description="1 to 128 characters without control characters, and not `.` or `..`.",
    ),
]
"""A persona or swarm id."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Role = Annotated[str, Meta(min_length=1, max_length=200)]
Charter = Annotated[str, Meta(min_length=1, max_length=8000)]
Reason = Annotated[str, Meta(max_length=1000)]

ItemId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+(?![\s\S])",
        description="1 to 64 letters, digits, `-` and `_`.",
    ),
]
"""How a sender names what it sends, so that sending it again sends nothing twice; a UUID, best."""

CONTENT_LENGTH = 8000
"""Characters of what is sent to a persona, at most."""

Content = Annotated[str, Meta(min_length=1, max_length=CONTENT_LENGTH)]
Domain = Annotated[str, Meta(min_length=1, max_length=64)]
SourceId = Annotated[str, Meta(max_length=128)]
"""A room, camera or session; empty where there is none [A1]."""

Mentions = Annotated[list[Name], Meta(max_length=MENTIONS)]
Priority = Annotated[float, Meta(ge=0, le=1)]
Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its distance from UTC: without one nobody could say how old it is."""

U32 = Annotated[int, Meta(ge=0, le=U32_MAX)]
U64 = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": U64_MAX})]
"""The upper bound is checked by the struct that holds the field: msgspec's own bounds end at 2**63."""

IntervalMs = Annotated[int, Meta(ge=0, le=INTERVAL_CEILING_MS)]
