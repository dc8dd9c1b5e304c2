"""What may be sent to a persona, and that no event about it is too large to be stored [A1]."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from libs.contracts.inbox import DropReason, InboxDroppedPayload, InboxItem, SendRequest
from libs.contracts.limits import ANSWERS_MOST, EVENT_BYTES
from libs.contracts.thoughts import Event, EventType
from tests.unit.make import NOW, inbox_item


def send(**fields: Any) -> SendRequest:
    return msgspec.json.decode(msgspec.json.encode({"content": "c"} | fields), type=SendRequest)


@pytest.mark.fact("A1")
def test_a_content_is_all_that_a_sender_has_to_give() -> None:
    assert send() == SendRequest(content="c")
    assert (send().domain, send().source_id, send().priority, send().mentions) == ("chat", "", None, [])


@pytest.mark.fact("A1")
@pytest.mark.parametrize(
    ("field", "least", "most"), [("content", 1, 8000), ("domain", 1, 64), ("source_id", 0, 128)]
)
def test_texts_have_their_lengths_in_characters(field: str, least: int, most: int) -> None:
    for good in (least, most):
        assert len(getattr(send(**{field: "\U0001f600" * good}), field)) == good
    for wrong in (least - 1, most + 1):
        if wrong >= 0:
            with pytest.raises(msgspec.ValidationError, match=field):
                send(**{field: "x" * wrong})


@pytest.mark.fact("A1")
def test_at_most_32_names_are_mentioned_of_1_to_200_characters() -> None:
    assert len(send(mentions=["n" * 200] * 32).mentions) == 32
    for wrong in (["n"] * 33, [""], ["n" * 201]):
        with pytest.raises(msgspec.ValidationError, match="mentions"):
            send(mentions=wrong)


@pytest.mark.fact("A1")
def test_a_priority_is_a_number_from_0_to_1() -> None:
    assert [send(priority=good).priority for good in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    for wrong in (-0.01, 1.01, "0.5", True):
        with pytest.raises(msgspec.ValidationError, match="priority"):
            send(priority=wrong)


@pytest.mark.fact("A1")
def test_a_time_says_how_far_from_utc_it_is() -> None:
    sent = send(timestamp="2026-01-02T03:04:05+02:00").timestamp
    assert sent is not None and sent.utcoffset() is not None
    with pytest.raises(msgspec.ValidationError, match="timestamp"):
        send(timestamp="2026-01-02T03:04:05")


@pytest.mark.fact("A1")
def test_a_stored_item_names_only_what_is_not_the_default() -> None:
    item = inbox_item()
    assert msgspec.json.decode(msgspec.json.encode(item)).keys() == {
        "id", "persona_id", "content", "timestamp"
    }  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(item), type=InboxItem) == item
    assert item.answers_most == ANSWERS_MOST


@pytest.mark.fact("A2")
def test_what_is_dropped_is_announced_whole_in_one_event_however_odd_its_characters() -> None:
    """JSON writes a control character in six bytes; an event has to fit its stream with its headers."""
    payload = InboxDroppedPayload(
        id="i" * 36,
        domain="\x01" * 64,
        source_id="\x01" * 128,
        content="\x01" * 8000,
        timestamp=NOW,
        priority=0.123456789,
        post_id="p" * 36,
        reason=DropReason.UNKNOWN_PERSONA,
        attempts=3,
        error="\x01" * 1000,
    )
    event = Event(
        id="e" * 36,
        event_type=EventType.CHECK_RESULT,
        persona_id="\U0001f600" * 128,
        swarm_id="\U0001f600" * 128,
        timestamp=NOW,
        payload=payload,
    )
    assert len(msgspec.json.encode(event)) + 2048 < EVENT_BYTES
