"""When the loop ticked last, whatever the clocks of schedulers say [4.3]."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from libs.contracts.work import SchedulerStatus
from services.gateway.peers import last_tick

ASKED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def said(at: float | None, age_ms: int | None) -> SchedulerStatus:
    """A scheduler whose clock says that it ticked so many seconds before now."""
    tick = None if at is None else ASKED - seconds(at)
    return SchedulerStatus(
        instance="s", ticking=True, run=1, last_tick_at=tick, shards=1, tick_age_ms=age_ms
    )  # fmt: skip


@pytest.mark.fact("4.3")
@pytest.mark.parametrize(
    ("schedulers", "ago"),
    [
        ([], None),
        ([said(None, None)], None),
        ([said(0.1, 100)], 0.1),
        ([said(0.3, 100)], 0.3),  # what it says itself, as long as that is about right
        ([said(-86400, 100)], 0.1),  # a day ahead
        ([said(86400, 100)], 0.1),  # a day behind
        ([said(-86400, 60_000), said(4, 4000)], 4),  # who is ahead has not ticked for a minute
        ([said(30, None)], 30),  # from a journal
        ([said(-30, None)], 0),  # the same, of a clock that was ahead
        ([said(None, None), said(2, 2000)], 2),
    ],
)
def test_the_last_tick_is_told_by_its_age_where_clocks_disagree(
    schedulers: list[SchedulerStatus], ago: float | None
) -> None:
    assert last_tick(schedulers, ASKED) == (None if ago is None else ASKED - seconds(ago))
