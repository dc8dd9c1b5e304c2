"""Trimming, counting, titles [3.8–3.10]."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.cognition.text import count_facts, proposal_title, trim

LIMITS = st.integers(0, 40)


@pytest.mark.fact("3.10")
@given(st.text(max_size=60), LIMITS)
@example("  ab  ", 6)
@example("   abcdef", 4)
@example("ab   cdef", 5)
def test_trimming_strips_what_fits_and_cuts_what_does_not(text: str, limit: int) -> None:
    """Written here as [3.10] says it."""
    if len(text) <= limit:
        assert trim(text, limit) == text.strip()
    else:
        assert trim(text, limit) == (text[:limit] + "...").strip()


@pytest.mark.fact("3.10")
@given(st.text(max_size=60), LIMITS)
def test_a_trimmed_text_is_never_longer_than_its_limit_and_the_dots(text: str, limit: int) -> None:
    trimmed = trim(text, limit)
    assert len(trimmed) <= limit + 3
    assert trimmed == trimmed.strip()


@pytest.mark.fact("3.10")
def test_the_limit_counts_characters_before_stripping() -> None:
    assert trim("  abc ", 6) == "abc"
    assert trim("  abc  ", 6) == "abc ...", "seven characters are more than six, whatever they are"
    assert trim("abcdef", 6) == "abcdef"
    assert trim("abcdefg", 6) == "abcdef..."
    assert trim("  abcdefg", 4) == "ab..."
    assert trim("ab  cd", 4) == "ab  ...", "the blanks before the dots stay"


@pytest.mark.fact("3.10")
def test_the_limit_counts_characters_and_not_bytes() -> None:
    assert trim("ü" * 10, 10) == "ü" * 10
    assert trim("\U0001f600" * 11, 10) == "\U0001f600" * 10 + "..."


@pytest.mark.fact("3.9")
@pytest.mark.parametrize(
    ("thought", "facts"),
    [
        ("", 1),
        ("no mark", 1),
        ("One.", 1),
        ("One. Two! Three?", 3),
        ("...", 3),
        ("." * 12, 12),
        ("!" * 13, 12),
        ("a; b, c: d…", 1),
        ("3.14 is a number. Yes?!", 4),
    ],
)
def test_facts_are_full_stops_and_the_like_between_1_and_12(thought: str, facts: int) -> None:
    assert count_facts(thought) == facts


@pytest.mark.fact("3.9")
@given(st.text())
def test_there_are_always_1_to_12_facts(thought: str) -> None:
    assert 1 <= count_facts(thought) <= 12


@pytest.mark.fact("3.8")
@pytest.mark.parametrize(
    ("thought", "title"),
    [
        ("Try this", "Try this"),
        ("\n  \n\t Try   \t this \nand that", "Try this"),
        ("x" * 72, "x" * 72),
        ("x" * 73, "x" * 72 + "..."),
        ("x" * 71 + "   y", "x" * 71 + " ..."),
        ("", "proposal-10"),
        (" \n\t\n ", "proposal-10"),
        ("one\r\ntwo", "one"),
    ],
)
def test_a_title_is_the_first_line_that_is_not_blank(thought: str, title: str) -> None:
    assert proposal_title(thought, 10) == title


@pytest.mark.fact("3.8")
@given(st.text(max_size=200))
def test_a_title_is_one_line_without_runs_of_blanks(thought: str) -> None:
    title = proposal_title(thought, 2)
    assert title
    assert len(title) <= 75
    assert len(title.splitlines()) == 1
    assert "  " not in title
