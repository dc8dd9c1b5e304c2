"""The context budget [H11, H12]."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, Omitted, compose
from libs.contracts.work import ContextLine, WorkItem
from services.thinker.budget import TEMPLATE_TOKENS, budget_of, estimated, fit
from services.thinker.prompt import build, context_text
from tests.unit.make import item, line

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def words(text: str) -> int:
    """A tokenizer for tests: a token a word."""
    return len(text.split())


def persona(charter: int = 3, lines: tuple[int, ...] = ()) -> WorkItem:
    """A persona with so many words of charter and lines of so many words each."""
    context = [ContextLine("e", str(n), " ".join([f"w{n}"] * (size - 2))) for n, size in enumerate(lines)]
    return msgspec.structs.replace(item(), charter=" ".join(["c"] * charter), context=context)


@pytest.mark.parametrize(
    ("window", "system", "completion", "context"),
    [
        (2048, 204, 512, 1332),
        (32768, 512, 4000, 28256),
        (512, 128, 256, 128),
        (300, 128, 256, 0),
        (131072, 512, 4000, 126560),
    ],
)
def test_a_window_has_the_shares_that_h11_gives_it(
    window: int, system: int, completion: int, context: int
) -> None:
    budget = budget_of(window, max_tokens=100_000)
    assert (budget.system, budget.completion, budget.context) == (system, completion, context)
    assert budget.asked == completion


def test_the_model_is_asked_for_no_more_than_either_bound() -> None:
    assert budget_of(2048, max_tokens=256).asked == 256
    assert budget_of(2048, max_tokens=513).asked == 512


def test_what_fits_is_told_whole_and_nothing_is_said_of_it() -> None:
    asked = persona(lines=(10, 20, 30))
    fitted = fit(asked, budget_of(2048, 256), words)
    assert fitted.prompt == build(asked)
    assert fitted.omitted == Omitted()


def test_the_newest_stay_and_are_told_in_time_order() -> None:
    """Shares of 512: 128 for context. 60 + 60 fit, the third does not, and no older one is told for it."""
    asked = persona(lines=(5, 60, 60, 60))
    fitted = fit(asked, budget_of(512, 64), words)
    assert fitted.omitted == Omitted(context=2)
    kept = asked.context[2:]
    assert fitted.prompt == build(msgspec.structs.replace(asked, context=kept))


def test_a_charter_takes_from_the_context_before_it_is_cut_itself() -> None:
    budget = budget_of(512, 64)
    frame = words(build(persona(0)).system) + words(build(persona(0)).user) + TEMPLATE_TOKENS
    room = 512 - 64 - frame
    whole = fit(persona(room - 10, lines=(10,)), budget, words)
    assert whole.omitted == Omitted()
    without = fit(persona(room - 9, lines=(10,)), budget, words)
    assert without.omitted == Omitted(context=1)


def test_a_charter_that_alone_is_too_long_is_cut_and_the_cut_is_as_small_as_can_be() -> None:
    budget = budget_of(512, 64)
    asked = persona(5000, lines=(4,))
    fitted = fit(asked, budget, words)
    frame = words(build(persona(0)).system) + words(build(persona(0)).user) + TEMPLATE_TOKENS
    kept = fitted.prompt.user.split("charter: ")[1].split("\n")[0]
    assert asked.charter.startswith(kept)
    assert words(kept) == 512 - 64 - frame
    assert fitted.omitted == Omitted(context=1, charter_chars=len(asked.charter) - len(kept))


@given(
    st.integers(0, 900),
    st.lists(st.integers(3, 200), max_size=8),
    st.sampled_from([512, 600, 1000, 2048]),
    st.integers(1, 600),
)
def test_a_fitted_prompt_and_its_answer_fit_the_window(
    charter: int, lines: list[int], window: int, most: int
) -> None:
    """Lines are kept or dropped whole, the kept ones are the newest, and what is left out is counted."""
    asked, budget = persona(charter, tuple(lines)), budget_of(window, most)
    fitted = fit(asked, budget, words)
    used = words(fitted.prompt.system) + words(fitted.prompt.user)
    assert used + TEMPLATE_TOKENS + budget.asked <= window
    dropped = fitted.omitted.context
    kept = [context_text(entry) for entry in asked.context[dropped:]]
    told = fitted.prompt.user.split("oldest first:\n")[1].split("\nphase:")[0]
    assert told == ("\n".join(kept) or "none")
    assert sum(map(words, kept)) <= budget.context
    if dropped:
        newest_left_out = words(context_text(asked.context[dropped - 1]))
        room = window - budget.asked - TEMPLATE_TOKENS - used - (words("none") if kept else 0)
        assert newest_left_out > min(budget.context - sum(map(words, kept)), room)


def test_what_was_left_out_is_in_the_events_payload_and_otherwise_the_keys_are_the_references() -> None:
    def payload(omitted: Omitted) -> dict[str, Any]:
        thought = compose(item(context=[line()]), 1, Answer(text="So."), NOW, omitted)
        found: dict[str, Any] = msgspec.json.decode(thought.events[0][1])["payload"]
        return found

    plain = payload(Omitted())
    assert not {"context_dropped", "charter_trimmed"} & plain.keys()
    told = payload(Omitted(context=3, charter_chars=17))
    assert (told["context_dropped"], told["charter_trimmed"]) == (3, 17)
    assert told.keys() - plain.keys() == {"context_dropped", "charter_trimmed"}
    assert told["context_event_count"] == 1


@given(st.text(max_size=300))
def test_an_estimate_is_a_third_of_the_bytes(text: str) -> None:
    assert 0 <= 3 * estimated(text) - len(text.encode()) < 3
