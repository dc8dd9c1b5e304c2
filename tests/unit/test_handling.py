"""What becomes of the messages that a thought takes up [A5, H15]."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.answer import WITHDRAWN, Answer, failed
from libs.cognition.compose import compose
from libs.cognition.handling import OTHERS_ANSWERED, TOO_LONG
from libs.cognition.text import RESPONSE_CHARS
from libs.cognition.told import Told
from libs.contracts.inbox import InboxDroppedPayload, InboxHandledPayload
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import ITEM_ATTEMPTS, ITEMS_A_THOUGHT
from libs.contracts.work import TakenItem
from services.scheduler.weights import fits
from tests.unit.make import NOW
from tests.unit.messages import LONG, decision, events, of_type, outcomes, reading, taken, worst

LAST = ITEM_ATTEMPTS - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def think(*messages: TakenItem, text: str | None = None, count: int = 1, **more: Any) -> ThoughtEntry:
    answer = more.pop("answer", None) or Answer(text=decision() if text is None else text, model="m-1")
    return compose(reading(*messages, thought_count=count), 1, answer, NOW, **more)


@pytest.mark.fact("A5")
@pytest.mark.fact("H15")
def test_a_response_is_the_thought_and_handles_every_message() -> None:
    entry = think(taken(1), taken(2, source_id="room 2"))
    thought, handled = events(entry)
    assert (thought["event_type"], handled["event_type"]) == ("thought_generated", "inbox_handled")
    assert thought["payload"]["thinking"] == "Calm."
    assert thought["payload"]["inbox_item_ids"] == ["i-1", "i-2"]
    assert (thought["payload"]["source"], thought["payload"]["error"]) == ("model", None)
    assert handled["payload"] == {
        "thought_count": 1,
        "items": [
            {"id": "i-1", "source_id": "room 1", "outcome": "handled"},
            {"id": "i-2", "source_id": "room 2", "outcome": "handled"},
        ],
        "will_respond": True,
        "response": "Calm.",
        "error": None,
    }
    assert (handled["persona_id"], handled["swarm_id"]) == ("p", "swarm-core")
    assert outcomes(entry) == ["handled", "handled"]
    assert entry.effort is not None
    assert [settled.sequence for settled in entry.effort.items] == [1, 2]
    assert (entry.effort.responded, entry.effort.failed) == (True, False)


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    ("will_respond", "response"), [(False, ""), (False, "Never mind."), (True, ""), (True, " \n")]
)
def test_a_skip_handles_the_messages_and_says_nothing(will_respond: bool, response: str) -> None:
    text = decision(will_respond, response)
    entry = think(taken(1), text=text)
    (handled,) = of_type(entry, "inbox_handled")
    assert (handled["will_respond"], handled["response"], handled["error"]) == (will_respond, None, None)
    assert events(entry)[0]["payload"]["thinking"] == text
    assert outcomes(entry) == ["handled"]
    assert entry.effort is not None and not entry.effort.responded


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It is calm.", "the answer is not one JSON object"),
        ('{"will_respond": true}', "response: is missing"),
        ('{"response": "Calm."}', "will_respond: is missing"),
        (decision("yes"), "will_respond: is a string, not a boolean"),
        (decision(True, None), "response: is null, not a string"),
    ],
)
def test_what_is_no_decision_is_an_error_for_all_to_see_and_never_a_default(text: str, said: str) -> None:
    entry = think(taken(1), taken(2, attempts=1), text=text)
    thought, handled = events(entry)
    assert thought["payload"]["source"] == "model"
    assert thought["payload"]["thinking"] == text
    assert said in thought["payload"]["error"]
    assert said in handled["payload"]["error"]
    assert (handled["payload"]["will_respond"], handled["payload"]["response"]) == (None, None)
    assert outcomes(entry) == ["failed", "failed"]
    assert entry.effort is not None
    assert (entry.effort.by_model, entry.effort.failed, entry.effort.responded) == (True, False, False)


@pytest.mark.fact("A5")
@pytest.mark.parametrize("answer", [failed("HTTP 400: no"), Answer(text=" "), Answer(text="gibberish")])
def test_a_message_that_fails_for_the_last_time_is_set_aside_announced_and_readable(answer: Answer) -> None:
    message = taken(2, "Anybody?", attempts=LAST, domain="game", post_id="post-1", priority=0.75)
    entry = think(taken(1), message, answer=answer)
    assert outcomes(entry) == ["failed", "aside"]
    assert [kind for kind, _ in entry.events] == ["thought_generated", "inbox_handled", "inbox_dropped"]
    (dropped,) = of_type(entry, "inbox_dropped")
    thought = events(entry)[0]["payload"]
    assert dropped == {
        "id": "i-2",
        "domain": "game",
        "source_id": "room 1",
        "content": "Anybody?",
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "priority": 0.75,
        "post_id": "post-1",
        "reason": "failed",
        "attempts": ITEM_ATTEMPTS,
        "error": thought["error"],
    }
    assert thought["error"]


@pytest.mark.fact("A5")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(error="left alone", asked=False),
        Answer(error="HTTP 503: no", outage=True),
        failed(WITHDRAWN),
        failed(None),
    ],
)
def test_messages_that_nothing_tried_are_returned_and_no_event_tells_of_them(answer: Answer) -> None:
    entry = think(taken(1, attempts=LAST), taken(2), answer=answer)
    assert outcomes(entry) == ["returned", "returned"]
    assert [kind for kind, _ in entry.events] == ["thought_generated"]


@pytest.mark.fact("A5")
def test_where_as_many_have_answered_as_may_a_response_is_not_said_and_the_event_says_why() -> None:
    entry = think(taken(1, may_answer=False), taken(2, may_answer=False))
    (handled,) = of_type(entry, "inbox_handled")
    assert (handled["will_respond"], handled["response"]) == (True, None)
    assert handled["error"] == OTHERS_ANSWERED
    assert outcomes(entry) == ["handled", "handled"]
    assert entry.effort is not None and not entry.effort.responded
    assert events(entry)[0]["payload"]["thinking"] == decision()
    one_of_them = think(taken(1, may_answer=False), taken(2))
    assert of_type(one_of_them, "inbox_handled")[0]["response"] == "Calm."


@pytest.mark.fact("A5")
def test_a_message_without_room_is_not_mentioned_and_one_that_never_has_any_fails() -> None:
    told = Told(messages=[taken(1)], too_long=[taken(3), taken(4, attempts=LAST)])
    messages = [taken(number) for number in range(1, 5)]
    entry = compose(reading(*messages), 1, Answer(text=decision()), NOW, told)
    assert entry.effort is not None
    found = [(settled.sequence, settled.outcome.value) for settled in entry.effort.items]
    assert found == [(1, "handled"), (3, "failed"), (4, "aside")]
    thought, handled, dropped = events(entry)
    assert thought["payload"]["inbox_item_ids"] == ["i-1"]
    assert (handled["payload"]["response"], handled["payload"]["error"]) == ("Calm.", TOO_LONG)
    assert dropped["payload"]["error"] == TOO_LONG


@pytest.mark.fact("A5")
def test_a_thought_beside_messages_that_are_all_too_long_is_a_thought_like_any_other() -> None:
    told = Told(too_long=[taken(1)])
    entry = compose(reading(taken(1)), 1, Answer(text="All calm."), NOW, told)
    thought, handled = events(entry)
    assert thought["payload"]["thinking"] == "All calm."
    assert thought["payload"]["inbox_item_ids"] == []
    assert (handled["payload"]["will_respond"], handled["payload"]["error"]) == (None, TOO_LONG)
    assert outcomes(entry) == ["failed"]


def test_who_settles_a_thought_without_a_prompt_has_told_all_of_it() -> None:
    """As its owner does with what was given up: the messages may be what ends thinkers."""
    entry = think(taken(1), taken(2, attempts=LAST), answer=failed("given up after 4 deliveries"))
    assert outcomes(entry) == ["failed", "aside"]


ANSWERS = [
    Answer(text=decision(True, "\x01" * 100_000), finish_reason="\x01" * 200),
    Answer(text=decision(False, "\x01" * 100_000)),
    Answer(text="\x01" * 100_000),
    failed("\x01" * 100_000),
    failed(WITHDRAWN),
]


@pytest.mark.fact("A5")
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("attempts", [0, LAST, 99])
@pytest.mark.parametrize("count", [3, 4, 10])
def test_the_worst_messages_and_the_worst_answer_fit(answer: Answer, attempts: int, count: int) -> None:
    """At most one of ten that are to be set aside at once is; the others count one failure more."""
    heavy = msgspec.structs.replace(
        reading(*worst(attempts), thought_count=count),
        persona_id="\U0001f600" * 128,
        swarm_id="\U0001f600" * 128,
        name="\x01" * 200,
        role="\x01" * 200,
    )
    entry = compose(heavy, 1, answer, NOW)
    assert fits(entry)
    found = outcomes(entry)
    assert len(of_type(entry, "inbox_dropped")) == found.count("aside")
    if "failed" in found and attempts >= LAST:
        assert 1 <= found.count("aside") < ITEMS_A_THOUGHT


@pytest.mark.fact("A5")
def test_a_storm_of_messages_to_be_set_aside_ends_without_a_thought_too_large() -> None:
    left, rounds = worst(0), 0
    while left:
        rounds += 1
        entry = compose(reading(*left), 1, failed("no"), NOW)
        assert fits(entry) and entry.effort is not None
        aside = {settled.sequence for settled in entry.effort.items if settled.outcome.value == "aside"}
        assert len(aside) == len(of_type(entry, "inbox_dropped"))
        left = [
            msgspec.structs.replace(one, attempts=one.attempts + 1)
            for one in left
            if one.sequence not in aside
        ]
    assert rounds <= ITEM_ATTEMPTS + ITEMS_A_THOUGHT


@pytest.mark.fact("H15")
@given(
    st.lists(st.tuples(TEXT.filter(bool), st.integers(0, 5), st.booleans()), min_size=1, max_size=10),
    st.one_of(st.builds(decision, st.booleans(), TEXT), TEXT.filter(str.strip)),
    st.integers(1, 12),
)
def test_every_message_has_one_outcome_and_its_events_say_the_same(
    messages: list[tuple[str, int, bool]], text: str, count: int
) -> None:
    told = [
        taken(number, content, attempts=attempts, may_answer=may)
        for number, (content, attempts, may) in enumerate(messages, start=1)
    ]
    entry = think(*told, text=text, count=count)
    assert fits(entry)
    found = outcomes(entry)
    assert len(found) == len(told)
    (handled,) = of_type(entry, "inbox_handled")
    assert [one["outcome"] for one in handled["items"]] == found
    assert (handled["response"] is not None) == (entry.effort is not None and entry.effort.responded)
    dropped = of_type(entry, "inbox_dropped")
    assert [one["id"] for one in dropped] == [
        one.id for one, outcome in zip(told, found, strict=True) if outcome == "aside"
    ]
    assert (handled["will_respond"] is None) == (set(found) <= {"failed", "aside"})
    msgspec.convert(handled, InboxHandledPayload)
    for payload in dropped:
        msgspec.convert(payload, InboxDroppedPayload)


def test_a_response_is_told_whole_up_to_its_bound() -> None:
    long = "r" * (RESPONSE_CHARS + 1)
    entry = think(taken(1), text=decision(True, long))
    thought, handled = events(entry)
    assert handled["payload"]["response"] == long[:RESPONSE_CHARS] + "..."
    assert thought["payload"]["thinking"] == long[:2000] + "..."


def test_the_longest_message_weighs_what_the_limits_are_made_for() -> None:
    assert len(msgspec.json.encode(LONG)) == 48_002
