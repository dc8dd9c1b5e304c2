"""What `just bench` makes of runs: medians, spreads, and whether a bar is met."""

from __future__ import annotations

import pytest

from bench.__main__ import PARTS, Bar, Part, figures, table

PART = Part(dict, [Bar("rate", 100, at_least=True), Bar("late", 5), Bar("lost", 0)], ["beside"])


def runs(rate: float, late: float, lost: float) -> list[dict[str, float]]:
    """Five runs about these medians."""
    return [
        {"rate": rate * factor, "late": late * factor, "lost": lost, "beside": 7.0}
        for factor in (0.5, 0.9, 1.0, 1.1, 3.0)
    ]


@pytest.mark.parametrize(
    ("rate", "late", "lost", "met"),
    [
        (100, 5, 0, [True, True, True]),
        (99, 5, 0, [False, True, True]),
        (300, 5.1, 0, [True, False, True]),
        (300, 1, 1, [True, True, False]),
    ],
)
def test_a_median_meets_its_bar_or_not(rate: float, late: float, lost: float, met: list[bool]) -> None:
    rows = figures(PART, "part", runs(rate, late, lost))
    assert [row.get("met") for row in rows] == [*met, None]
    assert [row["median"] for row in rows] == [rate, late, lost, 7.0]
    assert (rows[0]["from"], rows[0]["to"], rows[0]["of the bar"]) == (rate * 0.5, rate * 3, rate / 100)
    said = table(rows).splitlines()
    assert ["MISSED" in line for line in said[1:]] == [*(not one for one in met), False]


def test_every_figure_of_a_bar_is_named_once() -> None:
    for part in PARTS.values():
        keys = [bar.key for bar in part.bars] + list(part.shown)
        assert len(keys) == len(set(keys)) > 0
