"""Two schedulers whose personas are shared out unevenly give turns as one would [A14]."""

from __future__ import annotations

from typing import Any

import pytest

from bench.fair import LOAD_MOST, measure, violations

TRIES = 3


@pytest.mark.fact("A14")
@pytest.mark.timeout(600)
def test_nobody_has_a_second_turn_before_somebody_of_another_scheduler_and_thinkers_have_work() -> None:
    """85 of 100 fall to the first scheduler; without an agreement some 100 thoughts break the rule.

    On a machine that stands still for seconds what is counted is not certain: that gets another try.
    """
    found: list[dict[str, Any]] = []
    while len(found) < TRIES and not (found and is_fair_and_quick(found[-1])):
        found.append(measure(personas=360, share=0.85, interval_ms=200, slots=16))
    assert is_fair_and_quick(found[-1]), found


def is_fair_and_quick(found: dict[str, Any]) -> bool:
    return bool(found["thoughts that broke A14, at least"] == 0 and found["of what the endpoint can"] > 0.8)


@pytest.mark.fact("A14")
def test_a_second_turn_before_another_s_first_is_counted() -> None:
    eager, waiting = [1.0, 2.0, 3.0, 4.0, 5.0], [12.0]
    assert violations({"eager": eager, "waiting": waiting}, 0.0, 0.5) == 3
    assert violations({"eager": [1.0, 14.0], "waiting": waiting}, 0.0, 0.5) == 0
    assert violations({"eager": eager, "waiting": [3.0]}, 0.0, 0.5) == 0, "it may have begun long before"
    late = [0.5, 0.5 + LOAD_MOST * 0.5 + 10]
    assert violations({"eager": [0.4, 6.0, 7.0, 8.0], "late": late}, 0.0, 0.5) == 1, "due by then"
