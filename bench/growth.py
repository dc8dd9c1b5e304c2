"""Whether cost grows linearly: processors, memory and tick lag by the number of personas, as table and plot.

    python -m bench.growth [--personas 100 1000 10000 100000] [--interval-ms 60000] [--seconds 60] [--json]

Each size is a swarm of its own (`bench.scale`). What is measured is kept in docs/growth.json, a size at a
time, and drawn to docs/growth.svg.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scale import measure

DOCS = Path(__file__).parent.parent / "docs"
DATA, PLOT = DOCS / "growth.json", DOCS / "growth.svg"

_PANELS = (
    ("cores, five services", "processors, five services"),
    ("MiB resident, five services", "MiB resident, five services"),
    ("tick lag p99 s, at most", "tick lag, p99, seconds at most"),
)
_WIDTH, _HEIGHT, _MARGIN = 300, 240, 52


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, nargs="*", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--interval-ms", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="Results of bench.scale --json.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = json.loads(DATA.read_text()) if DATA.is_file() else {}
    for file in options.add:
        row = json.loads(file.read_text())
        found[str(row["personas"])] = row
    for personas in options.personas:
        found[str(personas)] = measure(
            personas,
            options.interval_ms,
            rounds=options.rounds,
            seconds=options.seconds,
            created=0,
            restart=False,
        )
        DATA.write_text(json.dumps(found, indent=1) + "\n")
    found = dict(sorted(found.items(), key=lambda one: int(one[0])))
    DATA.write_text(json.dumps(found, indent=1) + "\n")
    PLOT.write_text(plot(list(found.values())))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for row in found.values():
        print(row["personas"], *(f"{title}: {row[name]}" for name, title in _PANELS), sep="   ")


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Return an SVG, a panel a quantity, both axes logarithmic: linear growth is a line of slope 1."""
    panels = [_panel(index, name, title, rows) for index, (name, title) in enumerate(_PANELS)]
    width, height = len(_PANELS) * (_WIDTH + _MARGIN) + _MARGIN, _HEIGHT + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n'
    )


def _panel(index: int, name: str, title: str, rows: Sequence[dict[str, Any]]) -> str:
    points = [(float(row["personas"]), float(row[name])) for row in rows if row[name]]
    if not points:
        return ""
    left, top = _MARGIN + index * (_WIDTH + _MARGIN), _MARGIN
    xs, ys = _decades([x for x, _ in points]), _decades([y for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - xs[0]) / (xs[-1] - xs[0])
        up = (math.log10(y) - ys[0]) / (ys[-1] - ys[0])
        return round(left + across * _WIDTH, 1), round(top + (1 - up) * _HEIGHT, 1)

    drawn = [f'<text x="{left}" y="{top - 16}" font-weight="bold">{title}</text>']
    for power in xs:
        x, y = at(10.0**power, 10.0 ** ys[0])
        drawn.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{10**power:,}</text>')
    for power in ys:
        x, y = at(10.0 ** xs[0], 10.0**power)
        drawn.append(f'<line x1="{x}" y1="{y}" x2="{x + _WIDTH}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    line = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
    drawn.append(f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>')
    for value in points:
        x, y = at(*value)
        drawn.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="#1f5fa8"/>')
        drawn.append(f'<text x="{x - 4}" y="{y - 8}" text-anchor="end" fill="#1f5fa8">{value[1]:g}</text>')
    return "".join(drawn)


def _decades(values: Sequence[float]) -> list[int]:
    """Return the powers of ten that enclose values, two at least."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return list(range(low, max(high, low + 1) + 1))


if __name__ == "__main__":
    main()
