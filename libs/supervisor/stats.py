"""How long thoughts took, stage by stage, and what became of them, over all processes that live [H16]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from libs.contracts.presence import PresenceRecord, StageTimes
from libs.runtime.plain import plain

ORDER = ("queue wait", "batch wait", "inference", "publish", "total")
"""The stages in the order in which a thought passes them; the total is of completed thoughts alone."""


class Stage(Struct, frozen=True, kw_only=True):
    """A stage in milliseconds. Inference includes the wait for a batch."""

    stage: str
    count: int
    min_ms: float
    mean_ms: float
    max_ms: float


class Stats(Struct, frozen=True, kw_only=True):
    """The run so far, of the processes that live."""

    stages: list[Stage]
    outcomes: dict[str, int]


def stats(records: Iterable[PresenceRecord]) -> Stats:
    """Put together what processes say of their parts of thoughts."""
    merged: dict[str, StageTimes] = {}
    outcomes: Counter[str] = Counter()
    for record in records:
        outcomes.update(record.outcomes)
        for name, times in record.stages.items():
            merged[name] = _together(merged[name], times) if name in merged else times
    known = [name for name in ORDER if name in merged and merged[name].count]
    return Stats(stages=[_stage(name, merged[name]) for name in known], outcomes=dict(outcomes))


def lines(found: Stats) -> list[str]:
    """Return the run as lines for people; none where nothing was thought."""
    if not any(found.outcomes.values()):
        return []
    counted = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.items())
    times = [
        f"{one.stage:>12}  min {one.min_ms:.1f}, mean {one.mean_ms:.1f}, max {one.max_ms:.1f} ms"
        f" ({one.count})"
        for one in found.stages
    ]
    return [f"thoughts  {plain(counted)}", *times]


def _together(one: StageTimes, other: StageTimes) -> StageTimes:
    return StageTimes(
        count=one.count + other.count,
        least_s=min(one.least_s, other.least_s),
        sum_s=one.sum_s + other.sum_s,
        most_s=max(one.most_s, other.most_s),
    )


def _stage(name: str, times: StageTimes) -> Stage:
    return Stage(
        stage=name,
        count=times.count,
        min_ms=round(1000 * times.least_s, 3),
        mean_ms=round(1000 * times.sum_s / times.count, 3),
        max_ms=round(1000 * times.most_s, 3),
    )
