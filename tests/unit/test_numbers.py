"""Sets of thought numbers that are nearly one run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.numbers import Numbers


@given(st.lists(st.integers(0, 30)))
def test_it_is_a_set_of_numbers(added: list[int]) -> None:
    numbers = Numbers()
    for number in added:
        numbers.add(number)
        assert number in numbers
    assert [n for n in range(-1, 33) if n in numbers] == sorted(set(added))
    again = Numbers(numbers.dump())
    assert [n for n in range(-1, 33) if n in again] == sorted(set(added))


@given(st.lists(st.integers(0, 30)))
def test_its_form_depends_on_what_it_holds_alone(added: list[int]) -> None:
    forward, backward = Numbers(), Numbers()
    for one, other in zip(added, reversed(added), strict=True):
        forward.add(one)
        backward.add(other)
    assert forward.dump() == backward.dump()


def test_one_run_is_two_numbers_however_long_it_is() -> None:
    numbers = Numbers()
    for number in [*range(1000, 500, -1), *range(1001, 2000)]:
        numbers.add(number)
    assert numbers.dump() == [501, 1999]
