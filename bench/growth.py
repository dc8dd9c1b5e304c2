"""Whether cost grows linearly: processors, memory and tick lag by the number of personas, as table and plot.

    python -m bench.growth [--personas 100 1000 10000 100000] [--runs 5] [--interval-ms 60000] [--seconds 60]
        [--json]

Each run is a swarm of its own (`bench.scale`); sizes take turns, so that a slow hour is everybody's. Runs are
kept in docs/growth.json, each as soon as it is done, in the place of what was there of its size, and drawn to
docs/growth.png; `--runs 0` only draws. Five runs of all four sizes take three quarters of an hour.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from bench.scale import measure
from bench.swarms import say_run, spread

DOCS = Path(__file__).parent.parent / "docs"
DATA, PLOT = DOCS / "growth.json", DOCS / "growth.png"

Runs = dict[int, list[Mapping[str, Any]]]
"""Runs by their number of personas."""

_PANELS = {
    "cores, five services": "processors, five services",
    "cores, broker": "processors, broker",
    "MiB resident, five services": "MiB resident, five services",
    "tick lag p99 s, at most": "tick lag, p99, seconds at most",
}
_KEPT = ("personas", "interval ms", "thoughts/s", "status p99 ms", "cores, whole machine", *_PANELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--interval-ms", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=6, help="Thoughts a persona before it is measured.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = _read()
    began = time.monotonic()
    for number in range(options.runs):
        for personas in options.personas:
            say_run(began, f"{personas} personas", number, options.runs)
            run = measure(
                personas,
                options.interval_ms,
                rounds=options.rounds,
                seconds=options.seconds,
                created=0,
                restart=False,
            )
            kept = {key: run[key] for key in _KEPT}
            found[personas] = [*found[personas], kept] if number else [kept]
            DATA.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, PLOT)
    print(json.dumps(found, indent=2) if options.json else table(found))


def _read() -> Runs:
    if not DATA.is_file():
        return {}
    return {int(personas): runs for personas, runs in json.loads(DATA.read_text()).items()}


def _spread(runs: Sequence[Mapping[str, Any]], key: str) -> tuple[float, float, float]:
    """Return a figure's median over runs, its least and its most; not a number where no run has it."""
    return spread([float(run[key]) for run in runs if run[key] is not None] or [math.nan])


def table(found: Runs) -> str:
    """Return medians, and from where to where they go, as text."""
    lines = ["  ".join([f"{'personas':>8}", "runs", *(f"{title:>32}" for title in _PANELS.values())])]
    for personas, runs in sorted(found.items()):
        cells = ("{:.4g} ({:.4g} to {:.4g})".format(*_spread(runs, key)) for key in _PANELS)
        lines.append("  ".join([f"{personas:8}", f"{len(runs):4}", *(f"{cell:>32}" for cell in cells)]))
    return "\n".join(lines)


def draw(found: Runs, file: Path) -> None:
    """Draw a panel a quantity, both axes logarithmic: linear growth is a line of slope 1."""
    figure, panels = pyplot.subplots(1, len(_PANELS), figsize=(14, 3.6), constrained_layout=True)
    for panel, (key, title) in zip(panels, _PANELS.items(), strict=True):
        panel.set(title=title, xlabel="personas")
        points = [(size, *_spread(found[size], key)) for size in sorted(found)]
        if not (points := [point for point in points if not math.isnan(point[1])]):
            continue
        sizes, medians, least, most = zip(*points, strict=True)
        below = [median - low for median, low in zip(medians, least, strict=True)]
        above = [high - median for median, high in zip(medians, most, strict=True)]
        panel.errorbar(sizes, medians, yerr=[below, above], marker="o", capsize=3)
        decades = 10.0 ** math.floor(math.log10(min(least))), 10.0 ** math.ceil(math.log10(max(most)))
        panel.set(xscale="log", yscale="log", ylim=decades)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    figure.savefig(file, dpi=80, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
