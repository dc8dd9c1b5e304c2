"""Prompts [3.12]."""

from __future__ import annotations

from datetime import timedelta, timezone
from itertools import takewhile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.decision import INSTRUCTION
from libs.contracts.thoughts import Phase
from libs.contracts.work import ContextLine
from services.thinker.prompt import INSTRUCTIONS, SYSTEM, build, message_text
from tests.unit.make import NOW, item, line
from tests.unit.messages import reading, taken


@pytest.mark.fact("3.12")
@pytest.mark.parametrize("count", range(1, 9))
def test_a_prompt_holds_all_that_it_must(count: int) -> None:
    asked = msgspec.structs.replace(
        item("id-1", count, [line(1), line(2)]), name="Ada", role="scout", charter="Look far."
    )
    user = build(asked).user
    phase = ["compress", "observe", "reflect", "test"][count % 4]
    for part in (
        "id: id-1",
        "name: Ada",
        "role: scout",
        "charter: Look far.",
        f"phase: {phase}",
        f"thought_count: {count}",
        'thought_generated 2026-01-02T03:04:05Z {"n":1}\nthought_generated 2026-01-02T03:04:05Z {"n":2}',
    ):
        assert part in user
    assert user.endswith(INSTRUCTIONS[phase])  # type: ignore[index]


@pytest.mark.fact("3.12")
def test_an_empty_context_is_said_to_be_none() -> None:
    assert "\nnone\n" in build(item()).user
    assert "\nnone\n" not in build(item(context=[line()])).user


@pytest.mark.fact("3.12")
def test_each_phase_asks_for_what_the_reference_asks_for() -> None:
    words = {
        "observe": ["one to three", "signals", "uncertain"],
        "reflect": ["one hypothesis", "rationale", "risk"],
        "test": ["one check", "evaluate", "result", "evidence"],
        "compress": ["summary of the state", "facts to retain"],
    }
    assert {str(phase) for phase in INSTRUCTIONS} == set(words)
    for phase, instruction in INSTRUCTIONS.items():
        assert all(word in instruction for word in words[phase])
    assert "plain text" in SYSTEM
    assert "markup" in SYSTEM


@pytest.mark.fact("3.12")
@given(st.text(max_size=40), st.integers(1, 100))
def test_the_system_prompt_is_the_same_for_all_personas(text: str, count: int) -> None:
    mine = msgspec.structs.replace(item(text, count), name=text, role=text, charter=text)
    assert build(mine).system == SYSTEM


@pytest.mark.fact("3.12")
def test_consecutive_prompts_of_a_persona_share_all_but_their_end() -> None:
    """What changes least comes first, so that a server may cache the prefix."""
    context = [ContextLine("thought_generated", f"t{n}", "x" * 220) for n in range(3)]
    one, next_one = build(item("p", 1, context)).user, build(item("p", 2, [*context, line()])).user
    shared = "".join(
        a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, next_one, strict=False))
    )
    assert all(entry.timestamp in shared for entry in context)


@pytest.mark.fact("3.12")
def test_context_keeps_its_order_the_oldest_first() -> None:
    user = build(item(context=[line(number) for number in range(8)])).user
    places = [user.index(f'{{"n":{number}}}') for number in range(8)]
    assert places == sorted(places)


@pytest.mark.fact("H15")
def test_messages_are_told_the_best_first_and_a_decision_is_asked_for() -> None:
    asked = reading(
        taken(1, "Who is there?", source_id="room 1"),
        taken(2, "A wall.", domain="vision", source_id=""),
        thought_count=5,
        context=[line(3)],
    )
    prompt = build(asked)
    user = prompt.user
    assert user.endswith(INSTRUCTION)
    assert 'best first:\n1. "chat" from "room 1" at "2026-01-02T03:04:05.678901Z": "Who is there?"\n' in user
    assert '\n2. "vision" at "2026-01-02T03:04:05.678901Z": "A wall."\n' in user
    assert "i-1" not in user and "i-2" not in user
    assert (
        f"phase: observe\nthought_count: 5\nThat phase, in the background: {INSTRUCTIONS[Phase.OBSERVE]}"
        in user
    )
    assert prompt.system == SYSTEM
    assert prompt.prefill == '{"will_respond":'


@pytest.mark.fact("H15")
def test_a_model_that_is_asked_again_is_told_what_was_wrong() -> None:
    asked = reading(taken())
    one, again = build(asked), build(asked, "no decision: response: is missing")
    assert again.user == f"{one.user} Your last answer was not taken (no decision: response: is missing)."
    assert (again.system, again.prefill) == (one.system, one.prefill)


@pytest.mark.fact("A5")
def test_of_a_post_to_the_swarm_the_others_answers_are_told_and_whether_it_may_be_answered() -> None:
    assert message_text(1, taken(post_id="post-1")).endswith(
        '"Is it calm?" It went to the whole swarm. It may still be answered.'
    )
    closed = taken(post_id="post-1", answers=["It is.", 'Not "quite".'], may_answer=False)
    assert message_text(1, closed).endswith(
        'swarm. Answers so far: "It is.", "Not \\"quite\\".". It is left to others to answer.'
    )
    assert "post-1" not in message_text(1, closed)


@pytest.mark.fact("H15")
@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_whatever_a_message_holds_it_stands_on_one_line(content: str, domain: str, source: str) -> None:
    """So it can pretend to be neither another message nor what the persona is asked."""
    text = message_text(1, taken(1, content, domain=domain, source_id=source, answers=[content], post_id="x"))
    assert "\n" not in text and "\r" not in text


def test_a_message_of_any_time_and_zone_can_be_told() -> None:
    early = NOW.replace(year=1, month=1, day=1, tzinfo=timezone(timedelta(hours=14)))
    assert "0001-01-01T03:04:05.678901+14:00" in message_text(1, taken(timestamp=early))


def test_a_prompt_without_messages_is_what_it_was_and_nothing_is_prefilled() -> None:
    prompt = build(item())
    assert "messages" not in prompt.user and "swarm remembers" not in prompt.user
    assert prompt.prefill == ""


@pytest.mark.fact("A18")
def test_what_the_swarm_remembers_is_told_before_what_the_persona_does() -> None:
    shared = [ContextLine("snapshot_compressed", f"t{n}", "{}") for n in range(2)]
    user = build(msgspec.structs.replace(item(context=[line()]), shared=shared)).user
    told = "what the swarm remembers, oldest first:\nsnapshot_compressed t0 {}\nsnapshot_compressed t1 {}\n"
    assert f"{told}recent context, oldest first:" in user
