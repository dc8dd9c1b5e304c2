"""Reading settings, and the one clear line for each that is wrong [1.2]."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.settings.reader import Described, Reader, SettingError


def reader(**env: str) -> Reader:
    return Reader({f"X_{name}": value for name, value in env.items()}, "X_")


def refused(read: Callable[[], object], *words: str) -> str:
    """Return the line that people see; it must be one, and name all of these."""
    with pytest.raises(SettingError) as raised:
        read()
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    for word in words:
        assert word in text
    return text


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("spelling", ["1", "true", "yes", "on", "TRUE", "Yes", "oN", " true "])
def test_these_are_true(spelling: str) -> None:
    assert reader(A=spelling).boolean("A", False, "") is True


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("spelling", ["0", "false", "no", "off", "FALSE", "No", "oFF", " off "])
def test_these_are_false(spelling: str) -> None:
    assert reader(A=spelling).boolean("A", True, "") is False


@pytest.mark.fact("1.2")
@given(
    st.text(min_size=1).filter(
        lambda t: t.strip().lower() not in (["1", "true", "yes", "on", "0", "false", "no", "off"])
    )
)
@example("2")
@example("tru")
@example("-1")
@example("enabled")
def test_everything_else_is_no_boolean(text: str) -> None:
    if text.strip():
        refused(
            lambda: reader(A=text).boolean("A", True, ""),
            "X_A",
            repr(text.strip()),
            "one of 1, true, yes, on",
        )


@pytest.mark.fact("1.2")
def test_the_line_names_the_variable_the_value_and_what_is_allowed() -> None:
    line = refused(lambda: reader(SIZE="12 MB").integer("SIZE", 1, "", least=1, most=9))
    assert line == "X_SIZE='12 MB' is not allowed: expected a whole number from 1 to 9"


@pytest.mark.fact("1.2")
@given(st.text(max_size=12))
@example("\n")
@example("a\nb")
@example("\x1b[31m")
def test_a_value_of_several_lines_is_still_told_on_one(text: str) -> None:
    if text.strip() and not text.strip().isdigit():
        refused(lambda: reader(A=text).integer("A", 1, ""), "X_A")


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("text", ["", " ", "\t\n "])
def test_an_empty_value_counts_as_absent(text: str) -> None:
    read = reader(A=text)
    assert read.boolean("A", True, "") is True
    assert read.integer("A", 7, "") == 7
    assert read.number("A", 0.5, "", least=0, most=1) == 0.5
    assert read.fraction("A", "") is None
    assert read.text("A", None, "") is None
    assert read.choice("A", "a", {"a": "a"}, "") == "a"
    assert not read.given("A")


@given(st.integers(-5, 200), st.integers(-5, 100), st.integers(0, 100), st.integers(0, 50))
def test_a_whole_number_within_its_bounds_is_taken_and_raised_to_its_floor(
    value: int, least: int, more: int, floor: int
) -> None:
    most = least + more

    def read() -> int:
        return reader(A=str(value)).integer("A", 0, "", least=least, most=most, floor=floor)

    if least <= value <= most:
        assert read() == max(value, floor or least)
    else:
        refused(read, "X_A", str(value), f"from {least} to {most}")


@pytest.mark.fact("1.2")
@pytest.mark.parametrize(
    "text", ["x", "1.0", "1e3", "0x10", "1_000", "+1", "--1", "-", "١٢", "1 2", "²", "9" * 30, "9" * 5000]
)
def test_these_are_no_whole_numbers(text: str) -> None:
    refused(lambda: reader(A=text).integer("A", 1, ""), "X_A", "a whole number from 0 to")


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("text", ["x", "nan", "inf", "-inf", "1,5", "-0.1", "2.1", "1e999"])
def test_these_are_no_numbers_from_0_to_2(text: str) -> None:
    refused(lambda: reader(A=text).number("A", 1.0, "", least=0, most=2), "X_A", text, "a number from 0 to 2")


@given(st.floats(0, 2))
def test_a_number_within_its_bounds_is_taken(value: float) -> None:
    assert reader(A=repr(value)).number("A", 1.0, "", least=0, most=2) == value


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("0.5", 0.5), ("1e-9", 1e-9)])
def test_a_fraction_is_above_0_and_up_to_1(text: str, value: float) -> None:
    assert reader(A=text).fraction("A", "") == value


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("text", ["0", "0.0", "1.01", "-1", "nan", "x"])
def test_these_are_no_fractions(text: str) -> None:
    refused(lambda: reader(A=text).fraction("A", ""), "X_A", text, "a number above 0 and up to 1")


def test_a_choice_may_have_other_spellings() -> None:
    options = {"ctranslate2": "ctranslate2", "candle": "ctranslate2"}
    assert reader(A="Candle").choice("A", "auto", options, "") == "ctranslate2"
    line = refused(lambda: reader(A="torch").choice("A", "auto", options, ""))
    assert line == "X_A='torch' is not allowed: expected one of ctranslate2, candle"


@pytest.mark.fact("1.1")
def test_an_alias_is_taken_where_the_name_is_absent() -> None:
    assert reader(OLD="1").integer("NEW", 7, "", alias="OLD") == 1
    assert reader(OLD="1", NEW="2").integer("NEW", 7, "", alias="OLD") == 2
    assert reader(OLD="1", NEW=" ").integer("NEW", 7, "", alias="OLD") == 1
    refused(lambda: reader(OLD="x").integer("NEW", 7, "", alias="OLD"), "X_OLD='x'")


def test_a_name_that_no_setting_has_is_told_with_the_nearest_one() -> None:
    read = reader(MAX_EVNETS="1", MAX_EVENTS="2", ZZZ="3")
    read.integer("MAX_EVENTS", 1, "")
    assert read.unknown() == [
        "X_MAX_EVNETS is not a setting; did you mean X_MAX_EVENTS?",
        "X_ZZZ is not a setting",
    ]


def test_variables_without_the_prefix_are_none_of_its_business() -> None:
    read = Reader({"Y_A": "1", "A": "1"}, "X_")
    assert read.integer("A", 7, "") == 7
    assert read.unknown() == []


def test_what_is_asked_for_is_described() -> None:
    read = reader()
    read.boolean("A", True, "what a is")
    read.integer("B", 5, "what b is", least=1, most=9, floor=3)
    read.text("C", None, "what c is")
    assert read.described == [
        Described("X_A", "true", "one of 1, true, yes, on, 0, false, no, off", "what a is"),
        Described("X_B", "5", "a whole number from 1 to 9 (at least 3 is used)", "what b is"),
        Described("X_C", "none", "text", "what c is"),
    ]
