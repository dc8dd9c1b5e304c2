"""What the substrate carries: every figure with its bar, medians of several runs, on this machine.

    python -m bench [--only throughput,large,flushed,latency,sse,scale] [--runs 5] [--into FILE] [--json]

Each part is a bench of its own, which tells more: `bench.throughput`, `bench.latency`, `bench.sse`,
`bench.scale`. What is measured is written to FILE after each run, so a break loses one run at most. All five
runs of all parts take about an hour, most of it `scale`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import latency, scale, sse, throughput
from bench.swarms import say_run, spread
from tests.support.swarm import swarm

Run = Mapping[str, Any]


class Bar(Struct, frozen=True):
    """What a figure of a part is to reach."""

    key: str
    bar: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bar if self.at_least else value <= self.bar


class Part(Struct, frozen=True):
    """A bench with the figures that count."""

    measure: Callable[[], Run]
    bars: Sequence[Bar]
    shown: Sequence[str] = ()
    """Figures without a bar that belong beside the others."""


def _sse() -> Run:
    with swarm("--quiet", settings={"AUTO_START": "false", "THINKER_ENABLED": "false"}) as up:
        return sse.measure(up, 500, 100, 15.0)


def _throughput(bar: float) -> tuple[Sequence[Bar], Sequence[str]]:
    beside = ("broker alone, messages/s", "share of the broker", "processors busy")
    return [Bar("thoughts/s", bar, at_least=True)], beside


PARTS: dict[str, Part] = {
    "throughput": Part(lambda: throughput.measure(4_000, 100, 10.0), *_throughput(throughput.BARS[4_000])),
    "large": Part(lambda: throughput.measure(10_000, 100, 10.0), *_throughput(throughput.BARS[10_000])),
    "flushed": Part(
        lambda: throughput.measure(4_000, 100, 10.0, sync_always=True),
        *_throughput(throughput.BAR_SYNC_ALWAYS),
    ),
    "latency": Part(
        lambda: latency.measure(100, 2_000, 15),
        [
            Bar("tick due to subscriber, ms, p50", latency.BAR_MS["p50"]),
            Bar("tick due to subscriber, ms, p99 at most", latency.BAR_MS["p99"]),
        ],
    ),
    "sse": Part(
        _sse,
        [Bar("late ms, p99", 250), Bar("lag events", 0), Bar("events missing", 0)],
        ("cores, gateway", "MiB resident, gateway"),
    ),
    "scale": Part(
        lambda: scale.measure(100_000, 60_000),
        [
            Bar("tick lag p99 s, at most", 1.0),
            Bar("MiB resident, five services", 1536),
            Bar("status p99 ms", 50),
            Bar("lineage slowest s", 2),
            Bar("scheduler killed to ticking s", 10),
            Bar("created/s by 32 clients", 1500, at_least=True),
        ],
        ("imported/s", "cores, five services"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", type=_parts, default=list(PARTS), help="Parts, separated by commas.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--into", type=Path, help="Where results go, as JSON.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {name: [] for name in options.only}
    began = time.monotonic()
    for name in options.only:
        for number in range(options.runs):
            say_run(began, name, number, options.runs)
            runs[name].append(PARTS[name].measure())
            if options.into is not None:
                options.into.write_text(json.dumps(runs, indent=1) + "\n")
    rows = [row for name in options.only for row in figures(PARTS[name], name, runs[name])]
    print(json.dumps({"figures": rows, "runs": runs}, indent=2) if options.json else table(rows))


def figures(part: Part, name: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a part's figures: median, least, most; the bar, the median's ratio to it, whether it is met."""
    rows: list[dict[str, Any]] = []
    bars = {bar.key: bar for bar in part.bars}
    for key in (*bars, *part.shown):
        values = [float(run[key]) for run in runs]
        median, least, most = spread(values)
        row = {"part": name, "figure": key, "median": median, "from": least, "to": most}
        if (bar := bars.get(key)) is not None:
            ratio = median / bar.bar if bar.bar else None
            row |= {"bar": bar.bar, "of the bar": ratio, "met": bar.met(median)}
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return figures as text."""
    lines = [f"{'':11} {'':40} {'median':>10} {'from':>10} {'to':>10} {'bar':>8} {'of it':>6}"]
    for row in rows:
        spread = " ".join(f"{row[key]:10.4g}" if row[key] < 1000 else f"{row[key]:10.0f}" for key in _SPREAD)
        line = f"{row['part']:11} {row['figure']:40} {spread}"
        if "bar" in row:
            share = f"{row['of the bar']:6.2f}" if row["of the bar"] is not None else f"{'':6}"
            line += f" {row['bar']:8g} {share} {'met' if row['met'] else 'MISSED'}"
        lines.append(line)
    return "\n".join(lines)


_SPREAD = ("median", "from", "to")


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
