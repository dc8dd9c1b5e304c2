"""What bench.thinker finds: figures of several runs, and their spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from msgspec import Struct


class Timed(Struct, frozen=True):
    """One run of one way."""

    seconds: float
    cpu: float
    latencies: list[float]

    @property
    def thoughts_per_s(self) -> float:
        return len(self.latencies) / self.seconds


class Figure(Struct, kw_only=True, omit_defaults=True):
    """What one way brought for some personas; of several runs, the median one by seconds."""

    way: str
    personas: int
    batch: int
    asked: int
    """Prompts measured: one at a time not all of many, but every n-th."""

    seconds: float
    thoughts_per_s: float
    thoughts_per_s_range: tuple[float, float]
    """Of the slowest and of the fastest run."""

    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    """Processor time of a thought in this process: what other load on the machine changes least."""

    fill: float | None = None
    """Rows of the batches by the most they might have had."""

    rows: float | None = None
    """Rows of a batch, on average: by them, not by what it might have had, goes the roofline."""

    roofline_share: float | None = None
    times_sequential: float | None = None
    """Thoughts a second by those of one at a time in the run beside: the median of all runs."""

    times_sequential_range: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, way: str, personas: int, batch: int, tokens: int, runs: list[Timed], others: list[Timed] | None
    ) -> Figure:
        """Return the figures of runs of `tokens` new tokens a thought; `others` took turns with them."""
        run = sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]
        asked = len(run.latencies)
        points: Any = statistics.quantiles(run.latencies, n=20) if asked > 1 else run.latencies * 19
        rates = [one.thoughts_per_s for one in runs]
        figure = cls(
            way=way,
            personas=personas,
            batch=batch,
            asked=asked,
            seconds=round(run.seconds, 3),
            thoughts_per_s=round(run.thoughts_per_s, 3),
            thoughts_per_s_range=(round(min(rates), 3), round(max(rates), 3)),
            tokens_per_s=round(run.thoughts_per_s * tokens, 1),
            p50_ms=round(1000 * points[9], 1),
            p95_ms=round(1000 * points[18], 1),
            cpu_ms=round(1000 * run.cpu / asked, 1),
        )
        if others is not None:
            pairs = zip(rates, others, strict=True)
            times = [round(rate / other.thoughts_per_s, 2) for rate, other in pairs]
            figure.times_sequential = round(statistics.median(times), 2)
            figure.times_sequential_range = (min(times), max(times))
        return figure

    def cells(self) -> Iterator[str]:
        """Return it as a row of the table."""
        yield self.way
        yield str(self.personas)
        yield str(self.batch)
        yield f"{self.thoughts_per_s:.2f}"
        yield _range(self.thoughts_per_s_range)
        yield f"{self.tokens_per_s:.0f}"
        yield f"{self.p50_ms:.0f}"
        yield f"{self.p95_ms:.0f}"
        yield f"{self.cpu_ms:.0f}"
        yield "" if self.rows is None else f"{self.rows:g}"
        yield "" if self.fill is None else f"{self.fill:.0%}"
        yield "" if self.times_sequential is None else f"{self.times_sequential:.2f}"
        yield _range(self.times_sequential_range)
        yield "" if self.roofline_share is None else f"{self.roofline_share:.0%}"


COLUMNS = (
    "way", "personas", "batch", "thoughts/s", "from, to", "tokens/s", "p50 ms", "p95 ms", "CPU ms", "rows",
    "fill", "× one", "from, to", "roofline",
)  # fmt: skip


def _range(values: tuple[float, float] | None) -> str:
    return "" if values is None else f"{values[0]:.2f}, {values[1]:.2f}"
