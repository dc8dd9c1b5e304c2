"""Prompts [3.12]."""

from __future__ import annotations

from itertools import takewhile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.work import ContextLine
from services.thinker.prompt import INSTRUCTIONS, SYSTEM, build
from tests.unit.make import item, line


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
