"""What a thought cost, and how new it is, as the journal keeps it [A16, A19]."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.answer import WITHDRAWN, Answer, failed, together, tokens_of
from libs.cognition.compose import compose
from libs.cognition.novelty import signature
from libs.cognition.told import Told
from libs.contracts.journal import Effort
from libs.contracts.limits import NOVELTY_THRESHOLD
from libs.contracts.thoughts import TOKENS_MOST, ThoughtPayload, Usage
from tests.unit.make import NOW, item
from tests.unit.messages import decision, events, reading, taken

USAGE = Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120)
TEXT = "The door stands open since noon, and nobody has come through it yet."


def effort(answer: Answer, told: Told | None = None, **more: Any) -> Effort | None:
    return compose(msgspec.structs.replace(item(), **more), 1, answer, NOW, told).effort


@pytest.mark.fact("A19")
def test_a_thought_by_a_model_tells_its_cost_and_what_later_ones_are_compared_with() -> None:
    answer = Answer(text=TEXT, model="m", usage=USAGE, latency_ms=900, cpu_ms=60)
    assert effort(answer) == Effort("observer", 120, 60, True, False, signature(TEXT), 1.0)


@pytest.mark.parametrize("count", range(1, 9))
def test_a_plain_fallback_has_no_effort(count: int) -> None:
    assert effort(failed(None), thought_count=count) is None
    assert effort(Answer(error=None, asked=False), thought_count=count) is None


@pytest.mark.fact("A18")
def test_of_a_persona_that_shares_a_snapshot_says_so_even_where_nothing_thinks() -> None:
    """Else nobody could tell, of a swarm without a model, whose snapshots are whose."""
    found = [effort(failed(None), thought_count=count, shares=True) for count in range(1, 5)]
    assert found == [None, None, None, Effort("observer", 0, 0, False, False, shares=True)]
    thought = effort(Answer(text=TEXT), shares=True)
    assert thought is not None and thought.shares


@pytest.mark.parametrize(
    "answer",
    [
        failed("no answer within 5 ms", 5),
        failed(WITHDRAWN, 5),
        Answer(text=" ", latency_ms=5),
    ],
)
def test_a_failure_has_an_effort_without_novelty(answer: Answer) -> None:
    assert effort(answer) == Effort("observer", 0, 5, False, True)


def test_where_no_model_was_asked_the_effort_says_so() -> None:
    found = effort(Answer(error="left alone", asked=False))
    assert found == Effort("observer", 0, 0, False, True, asked=False)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, 0),
        (Usage(), 0),
        (USAGE, 120),
        (Usage(total_tokens=7), 7),
        (Usage(prompt_tokens=5, completion_tokens=2), 7),
        (Usage(completion_tokens=2), 2),
        (Usage(prompt_tokens=TOKENS_MOST, completion_tokens=1), TOKENS_MOST),
    ],
)
def test_tokens_are_the_total_or_what_is_known_of_it(usage: Usage | None, tokens: int) -> None:
    found = effort(Answer(text=TEXT, usage=usage))
    assert found is not None and found.tokens == tokens


def test_what_a_failure_cost_counts_too() -> None:
    found = effort(Answer(text="", usage=USAGE, latency_ms=30))
    assert found is not None
    assert (found.tokens, found.cpu_ms, found.failed) == (120, 30, True)


COUNTS = st.none() | st.integers(0, TOKENS_MOST)
USAGES = st.none() | st.builds(
    Usage, prompt_tokens=COUNTS, completion_tokens=COUNTS, total_tokens=COUNTS
)  # fmt: skip


@given(USAGES, USAGES, st.integers(0, 9000), st.integers(0, 9000), st.none() | st.integers(0, 9000))
def test_who_is_asked_twice_pays_twice(
    first: Usage | None, second: Usage | None, one_ms: int, two_ms: int, cpu: int | None
) -> None:
    both = together(
        Answer(text="{", usage=first, latency_ms=one_ms, cpu_ms=cpu),
        Answer(text="So.", model="m", usage=second, latency_ms=two_ms),
    )
    assert (both.text, both.model, both.latency_ms) == ("So.", "m", one_ms + two_ms)
    assert both.thinking_ms == (one_ms if cpu is None else cpu) + two_ms
    assert tokens_of(both.usage) == min(tokens_of(first) + tokens_of(second), TOKENS_MOST)
    payload = events(compose(item(), 1, both, NOW))[0]["payload"]
    msgspec.convert(payload, ThoughtPayload)


def test_a_second_question_that_reached_nobody_was_an_outage() -> None:
    both = together(Answer(text="{", latency_ms=3), Answer(error="left alone", asked=False))
    assert (both.text, both.error, both.asked, both.outage, both.blameless) == (
        None, "left alone", True, True, True,
    )  # fmt: skip


@pytest.mark.fact("A19")
def test_a_thought_that_repeats_a_recent_one_is_marked() -> None:
    answer = Answer(text=TEXT, usage=USAGE)
    other = signature("Something else that was thought a while ago, of no concern to anybody.")
    entry = compose(msgspec.structs.replace(item(), recent=[other, signature(TEXT)]), 1, answer, NOW)
    assert events(entry)[0]["payload"]["novelty"] == 0.0
    assert events(entry)[0]["payload"]["repeats"] is True
    assert entry.effort is not None and entry.effort.novelty == 0.0
    assert entry.effort.repeats
    fresh = compose(msgspec.structs.replace(item(), recent=[other]), 1, answer, NOW)
    assert events(fresh)[0]["payload"]["novelty"] == 1.0
    assert "repeats" not in events(fresh)[0]["payload"]


@pytest.mark.fact("A19")
def test_a_thought_that_parrots_its_prompt_is_marked() -> None:
    parroted = effort(Answer(text=TEXT), Told(prompt=f"charter: {TEXT}\nphase: observe"))
    assert parroted is not None and parroted.novelty is not None
    assert parroted.novelty < NOVELTY_THRESHOLD


@pytest.mark.fact("A19")
def test_novelty_has_two_decimals_and_is_of_what_was_said() -> None:
    answer = Answer(text=decision(True, f"{TEXT} But now somebody has."))
    entry = compose(reading(taken(), recent=[signature(TEXT)]), 1, answer, NOW)
    assert entry.effort is not None
    shown = events(entry)[0]["payload"]["novelty"]
    assert shown == entry.effort.novelty == round(shown, 2)
    assert 0.0 < shown < 1.0
    assert entry.effort.signature == signature(f"{TEXT} But now somebody has.")


@pytest.mark.fact("A19")
def test_of_a_persona_that_chose_to_say_nothing_nothing_is_compared() -> None:
    """Its answer is the same each time, and repeats nothing."""
    for message in (taken(), taken(may_answer=False)):
        text = decision(False, "") if message.may_answer else decision()
        entry = compose(reading(message), 1, Answer(text=text), NOW)
        assert entry.effort is not None
        assert (entry.effort.novelty, entry.effort.signature) == (None, b"")
        assert "novelty" not in events(entry)[0]["payload"]
