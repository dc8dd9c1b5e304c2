"""Messages that thoughts take up, and the worst of them, for tests."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from libs.contracts.journal import ThoughtEntry
from libs.contracts.work import TakenItem, WorkItem
from tests.unit.make import NOW, item

LONG = "\x01" * 8000
"""The longest content, of what JSON writes longest: 48 000 bytes."""


def taken(number: int = 1, content: str = "Is it calm?", **more: Any) -> TakenItem:
    """A message, the best but `number` of its thought."""
    words: dict[str, Any] = {"domain": "chat", "source_id": "room 1", "timestamp": NOW} | more
    return TakenItem(sequence=number, id=f"i-{number}", content=content, **words)


def worst(attempts: int) -> list[TakenItem]:
    """Ten messages that weigh as much as may be."""
    controls = {"domain": "\x01" * 64, "source_id": "\x01" * 128, "post_id": "x" * 36}
    return [taken(number, LONG, attempts=attempts, **controls) for number in range(1, 11)]


def reading(*messages: TakenItem, thought_count: int = 1, **more: Any) -> WorkItem:
    """A thought that takes messages up."""
    found: WorkItem = msgspec.structs.replace(item("p", thought_count), inbox=list(messages), **more)
    return found


def decision(will_respond: Any = True, response: Any = "Calm.") -> str:
    """A model's answer to messages."""
    return json.dumps({"will_respond": will_respond, "response": response})


def events(entry: ThoughtEntry) -> list[dict[str, Any]]:
    """The events of a thought as clients read them."""
    return [json.loads(bytes(event)) for _, event in entry.events]


def of_type(entry: ThoughtEntry, event_type: str) -> list[dict[str, Any]]:
    """The payloads of a thought's events of one type."""
    return [event["payload"] for event in events(entry) if event["event_type"] == event_type]


def outcomes(entry: ThoughtEntry) -> list[str]:
    """What became of each message, by the thought's effort."""
    assert entry.effort is not None
    return [settled.outcome.value for settled in entry.effort.items]
