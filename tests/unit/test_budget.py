"""The context budget [H11, H12]."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, compose
from libs.cognition.told import Told
from libs.contracts.work import ContextLine, WorkItem
from services.thinker.budget import TEMPLATE_TOKENS, Fitted, budget_of, estimated, fit
from services.thinker.prompt import build, context_text, message_text
from tests.unit.make import item, line
from tests.unit.messages import decision, taken

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def words(text: str) -> int:
    """A tokenizer for tests: a token a word."""
    return len(text.split())


def persona(charter: int = 3, lines: tuple[int, ...] = ()) -> WorkItem:
    """A persona with so many words of charter and lines of so many words each."""
    context = [ContextLine("e", str(n), " ".join([f"w{n}"] * (size - 2))) for n, size in enumerate(lines)]
    return msgspec.structs.replace(item(), charter=" ".join(["c"] * charter), context=context)


def left_out(fitted: Fitted) -> tuple[int, int]:
    """Events of the context, and characters of the charter."""
    return fitted.told.context_dropped, fitted.told.charter_trimmed


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
    assert left_out(fitted) == (0, 0)


def test_the_newest_stay_and_are_told_in_time_order() -> None:
    """Shares of 512: 128 for context. 60 + 60 fit, the third does not, and no older one is told for it."""
    asked = persona(lines=(5, 60, 60, 60))
    fitted = fit(asked, budget_of(512, 64), words)
    assert left_out(fitted) == (2, 0)
    kept = asked.context[2:]
    assert fitted.prompt == build(msgspec.structs.replace(asked, context=kept))


def test_a_charter_takes_from_the_context_before_it_is_cut_itself() -> None:
    budget = budget_of(512, 64)
    frame = words(build(persona(0)).system) + words(build(persona(0)).user) + TEMPLATE_TOKENS
    room = 512 - 64 - frame
    whole = fit(persona(room - 10, lines=(10,)), budget, words)
    assert left_out(whole) == (0, 0)
    without = fit(persona(room - 9, lines=(10,)), budget, words)
    assert left_out(without) == (1, 0)


def test_a_charter_that_alone_is_too_long_is_cut_and_the_cut_is_as_small_as_can_be() -> None:
    budget = budget_of(512, 64)
    asked = persona(5000, lines=(4,))
    fitted = fit(asked, budget, words)
    frame = words(build(persona(0)).system) + words(build(persona(0)).user) + TEMPLATE_TOKENS
    kept = fitted.prompt.user.split("charter: ")[1].split("\n")[0]
    assert asked.charter.startswith(kept)
    assert words(kept) == 512 - 64 - frame
    assert left_out(fitted) == (1, len(asked.charter) - len(kept))


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
    dropped = fitted.told.context_dropped
    kept = [context_text(entry) for entry in asked.context[dropped:]]
    told = fitted.prompt.user.split("oldest first:\n")[1].split("\nphase:")[0]
    assert told == ("\n".join(kept) or "none")
    assert sum(map(words, kept)) <= budget.context
    if dropped:
        newest_left_out = words(context_text(asked.context[dropped - 1]))
        room = window - budget.asked - TEMPLATE_TOKENS - used - (words("none") if kept else 0)
        assert newest_left_out > min(budget.context - sum(map(words, kept)), room)


def test_what_was_left_out_is_in_the_events_payload_and_otherwise_the_keys_are_the_references() -> None:
    def payload(told: Told) -> dict[str, Any]:
        thought = compose(item(context=[line()]), 1, Answer(text="So."), NOW, told)
        found: dict[str, Any] = msgspec.json.decode(thought.events[0][1])["payload"]
        return found

    plain = payload(Told())
    assert not {"context_dropped", "charter_trimmed"} & plain.keys()
    told = payload(Told(context_dropped=3, charter_trimmed=17))
    assert (told["context_dropped"], told["charter_trimmed"]) == (3, 17)
    assert told.keys() - plain.keys() == {"context_dropped", "charter_trimmed"}
    assert told["context_event_count"] == 1


@given(st.text(max_size=300))
def test_an_estimate_is_a_third_of_the_bytes(text: str) -> None:
    assert 0 <= 3 * estimated(text) - len(text.encode()) < 3


def busy(charter: int, context: list[int], inbox: list[int], shared: list[int]) -> WorkItem:
    """A persona with units of so many words each."""
    messages = [
        taken(number, " ".join([f"m{number}"] * (size - FRAME_WORDS)))
        for number, size in enumerate(inbox, start=1)
    ]
    memory = [
        ContextLine("snapshot_compressed", str(n), " ".join([f"s{n}"] * (size - 2)))
        for n, size in enumerate(shared)
    ]
    return msgspec.structs.replace(persona(charter, tuple(context)), inbox=messages, shared=memory)


FRAME_WORDS = words(message_text(1, taken(1, "x"))) - 1


@pytest.mark.fact("H13")
def test_each_allocation_is_in_the_payload_where_there_is_more_than_the_own_events() -> None:
    budget = budget_of(2048, 256)
    own = fit(persona(3, (500, 500, 500)), budget, words)
    assert (own.told.context_dropped, own.told.allocation) == (1, {})
    item = busy(3, [500, 500, 500], [20], [9])
    fitted = fit(item, budget, words)
    assert fitted.told.allocation == {"inbox": "satisfied", "context": "floor", "shared": "satisfied"}
    thought = compose(item, 1, Answer(text=decision()), NOW, fitted.told)
    payload = msgspec.json.decode(thought.events[0][1])["payload"]
    assert payload["context_allocation"] == fitted.told.allocation
    assert payload["context_dropped"] == 1
    whole = fit(busy(3, [5], [20], [9]), budget, words)
    assert set(whole.told.allocation.values()) == {"satisfied"}


@pytest.mark.fact("H13")
def test_messages_have_their_floor_before_a_charter_has_its_end() -> None:
    """And nothing else has: as ever, a long charter costs the events first."""
    budget = budget_of(1024, 64)
    told = fit(busy(5000, [5], [30, 40, 2000], [5]), budget, words).told
    assert told.allocation == {"inbox": "floor", "context": "dropped", "shared": "dropped"}
    assert [one.id for one in told.messages] == ["i-1", "i-2"]
    assert [one.id for one in told.too_long] == ["i-3"]
    assert told.charter_trimmed
    alone = fit(persona(5000, (5,)), budget, words).told
    assert told.charter_trimmed > alone.charter_trimmed > 0


@pytest.mark.fact("H13")
def test_where_every_message_is_too_long_the_thought_is_one_like_any_other() -> None:
    item = busy(3, [5], [3000], [])
    fitted = fit(item, budget_of(2048, 256), words)
    assert fitted.prompt == build(msgspec.structs.replace(item, inbox=[]))
    assert (fitted.prompt.prefill, [one.id for one in fitted.told.too_long]) == ("", ["i-1"])


UNITS = st.lists(st.integers(FRAME_WORDS + 1, 300), max_size=10)


@pytest.mark.fact("H11")
@pytest.mark.fact("H12")
@pytest.mark.fact("H13")
@given(
    st.integers(0, 900),
    UNITS,
    UNITS,
    UNITS,
    st.sampled_from([512, 1000, 2048, 4096]),
    st.none() | st.just("no"),
)
def test_a_prompt_of_several_sources_and_its_answer_fit_the_window(
    charter: int, context: list[int], inbox: list[int], shared: list[int], window: int, wrong: str | None
) -> None:
    item, budget = busy(charter, context, inbox, shared), budget_of(window, 200)
    fitted = fit(item, budget, words, wrong)
    prompt, told = fitted.prompt, fitted.told
    used = words(prompt.system) + words(prompt.user) + words(prompt.prefill)
    assert used + TEMPLATE_TOKENS + budget.asked <= window
    lines = [context_text(one) for one in [*item.context, *item.shared]]
    lines += [message_text(number, one) for number, one in enumerate(told.messages, start=1)]
    kept = [one for one in prompt.user.splitlines() if one in set(lines)]
    assert sum(map(words, kept)) <= budget.context
    assert kept[len(kept) - len(told.messages) :] == lines[len(lines) - len(told.messages) :], (
        "whole, the best first"
    )
    events = [context_text(one) for one in item.context]
    assert [one for one in kept if one in set(events)] == events[told.context_dropped :], "the newest"
    memories = [context_text(one) for one in item.shared]
    remembered = [one for one in kept if one in set(memories)]
    assert remembered == memories[len(memories) - len(remembered) :]
    assert [one.sequence for one in told.messages] == sorted(one.sequence for one in told.messages)
    assert bool(prompt.prefill) == bool(told.messages)
    assert inbox == [] or told.messages or len(told.too_long) == len(inbox)
