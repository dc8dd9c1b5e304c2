"""How urgent an item is when it arrives [A3]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.inbox import InboxItem
from services.scheduler.priority import base_priority, content_words, is_mentioned, is_relevant, listener
from tests.unit.make import inbox_item

ANN = listener("Ann", "observer", "Watch the weather over the northern sea and warn the ships.")
OLD = 60.0
NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)


def priority(item: InboxItem, is_recent: bool = False, age_s: float = OLD) -> int:
    return base_priority(item, ANN, is_recent, age_s)


@pytest.mark.fact("A3")
def test_an_item_that_nothing_speaks_for_has_50() -> None:
    assert priority(inbox_item("Lunch at noon?")) == 50


@pytest.mark.fact("A3")
@pytest.mark.parametrize(
    ("item", "is_recent", "age_s", "expected"),
    [
        (inbox_item("Lunch, @Ann?"), False, OLD, 90),
        (inbox_item("Lunch?", mentions=["ann"]), False, OLD, 90),
        (inbox_item("Lunch?", mentions=["@Ann"]), False, OLD, 90),
        (inbox_item("Lunch?", source_id="room"), True, OLD, 70),
        (inbox_item("Lunch?", source_id="room"), False, OLD, 50),
        (inbox_item("A storm in the weather report"), False, OLD, 70),
        (inbox_item("Lunch?"), False, 59.9, 60),
        (inbox_item("Lunch?"), False, 60.0, 50),
        (inbox_item("Lunch?"), False, -5.0, 60),
        (inbox_item("Weather?", source_id="room"), True, 1.0, 100),
        (inbox_item("Weather, @Ann?", source_id="room"), True, 1.0, 100),
    ],
)
def test_what_speaks_for_an_item_adds_to_50(
    item: InboxItem, is_recent: bool, age_s: float, expected: int
) -> None:
    assert priority(item, is_recent, age_s) == expected


@pytest.mark.fact("A3")
@given(st.floats(0, 1))
def test_what_the_sender_says_is_the_priority_in_hundredths(given_priority: float) -> None:
    said = inbox_item("Weather, @Ann?", source_id="room", priority=given_priority)
    assert abs(priority(said, True, 0.0) - 100 * given_priority) <= 0.5 + 1e-9


@pytest.mark.fact("A3")
@given(st.text(max_size=200), st.text(max_size=20), st.floats(-1e6, 1e6), st.booleans())
def test_a_priority_is_from_50_to_100_for_any_content(
    content: str, source_id: str, age_s: float, is_recent: bool
) -> None:
    item = inbox_item(content, source_id=source_id)
    assert 50 <= priority(item, is_recent, age_s) <= 100


@pytest.mark.fact("A3")
@pytest.mark.parametrize(
    ("name", "content", "mentioned"),
    [
        ("Ann", "@Ann", True),
        ("Ann", "hey @ann!", True),
        ("Ann", "(@Ann's idea)", True),
        ("Ann", "@Ann, @Anna", True),
        ("Ann", "@Anna and then @Ann", True),
        ("Ann", "@Anna", False),
        ("Ann", "@Ann_2", False),
        ("Ann", "@Ann-Marie", False),
        ("Ann", "@Ann - are you there?", True),
        ("Ann", "@Ann-", True),
        ("Ann", "Ann", False),
        ("Ann", "write to bob@ann.org", False),
        ("Ann", "@ Ann", False),
        ("Ann", "@Ann\u0301", False),  # Ańn by a combining mark
        ("Anń", "@Ann\u0301", True),
        ("Ann", "\uff20\uff21nn", True),  # full width
        ("Ann Lee", "so @ann\n lee, what now?", True),
        ("Ann Lee", "@Ann", False),
        ("Straße", "@STRASSE", True),
        ("C++", "@C++?", True),
        ("@Ann", "@Ann", True),
        ("   ", "@ anybody", False),
        ("@", "@@", False),
        ("a.b (c)", "@A.B (C)", True),
    ],
)
def test_a_mention_is_the_whole_name_behind_an_at(name: str, content: str, mentioned: bool) -> None:
    assert is_mentioned(listener(name, "r", "c").name, inbox_item(content)) is mentioned


@pytest.mark.fact("A3")
@given(NAMES, NAMES, st.sampled_from(["", " ", ", ", "? ", "\n"]))
def test_a_longer_name_is_another_name(name: str, more: str, before: str) -> None:
    who = listener(name, "r", "c").name
    assert is_mentioned(who, inbox_item(f"{before}@{name} {more}"))
    assert not is_mentioned(who, inbox_item(f"{before}@{name}{more}"))
    assert not is_mentioned(who, inbox_item("x", mentions=[name + more]))


@pytest.mark.fact("A3")
def test_one_word_of_a_short_message_makes_it_relevant_and_one_of_a_long_message_does_not() -> None:
    words = listener("n", "observer", "Watch the weather and the ships of the northern sea.").words
    assert is_relevant(words, "What is the weather like?")
    assert is_relevant(words, "Two ships are late")
    assert not is_relevant(words, "The weather was nice when grandmother baked seven cakes yesterday evening")
    assert is_relevant(words, "The weather delayed several ships carrying lemons across the sea yesterday")
    assert not is_relevant(words, "What are you to do with it?"), "stop words are no words of anybody"


@pytest.mark.fact("A3")
def test_a_persona_or_a_message_without_words_is_relevant_to_nothing() -> None:
    assert not is_relevant(frozenset(), "weather")
    assert not is_relevant(frozenset({"weather"}), "…!?")


def test_words_are_folded_singular_and_without_stop_words() -> None:
    assert content_words("The SHIPS, and their Cargoes; two stories of the glass bus") == {
        "ship", "cargoes", "two", "story", "glass", "bus"
    }  # fmt: skip
