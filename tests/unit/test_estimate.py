"""A persona that has had one slow thought."""

from __future__ import annotations

import pytest

from libs.contracts.accounts import Credits
from services.scheduler.accounts import Accounts
from services.scheduler.estimate import expected
from services.scheduler.ledger import PersonaLedger
from services.scheduler.life import Life

LIMITS = Credits(20_000, 10_000)
"""The default policy's."""


@pytest.mark.fact("A16")
def test_one_slow_thought_does_not_end_a_persona() -> None:
    """Only a thought changes what the next is expected to cost, so it has to be admitted to one again."""
    entry = slow(8_400)
    assert short(entry, minute=8), "more than a whole minute has, and it was yesterday that it spent it"
    assert not short(entry, minute=9), "two minutes have it"


@pytest.mark.fact("A16")
def test_who_always_costs_more_than_a_minute_has_thinks_that_much_less_often() -> None:
    entry = slow(40_000)
    assert [minute for minute in range(7, 13) if not short(entry, minute)] == [12]


@pytest.mark.fact("A16")
@pytest.mark.parametrize("back", [1, 4, 5, 600])
def test_a_clock_that_is_set_back_ends_nobody_who_has_had_a_slow_thought(back: int) -> None:
    """It costs five minutes: it thinks at once where the clock jumped by as many, else in less than ten."""
    entry = slow(40_000)
    waits = next(n for n in range(20) if not short(entry, minute=7 - back + n))
    assert waits == (0 if back >= 5 else back + 5)


@pytest.mark.fact("A16")
def test_what_a_minute_has_is_expected_as_it_is_however_long_ago_the_last_was() -> None:
    assert expected(slow(5_000), "Watch.", 256, LIMITS, 1000) == Credits(960, 6_000)


def slow(cpu_ms: int) -> PersonaLedger:
    """A persona whose last thought, in minute 7, took so long."""
    entry = PersonaLedger()
    life = entry.life = Life(lambda: 0.0)
    life.cost, life.minute = Credits(800, cpu_ms), 7
    return entry


def short(entry: PersonaLedger, minute: int) -> bool:
    cost = expected(entry, "Watch.", 256, LIMITS, minute)
    return Accounts().reserve("p", LIMITS, "p", 2, window=minute, cost=cost) is not None
