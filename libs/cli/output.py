"""Tables and trees for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from libs.runtime.plain import plain
from libs.supervisor.text import plain_json

_ENDLESS = 1_000_000
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(plain_json(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def print_json_line(value: object) -> None:
    """Print a value as JSON on one line, at once."""
    print(plain_json(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows under columns, or `empty` where there are none.

    In a terminal the last column is wrapped at words; no other is, and no word is ever cut, so that what is
    wider than the terminal runs on in its next line, and may be copied whole.
    """
    if not rows:
        print(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    cells = [[plain(_cell(value)) for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, *column in zip(columns[:-1], *(row[:-1] for row in cells), strict=True):
        table.add_column(name, no_wrap=True, min_width=max(map(cell_len, (name, *column))))
    table.add_column(columns[-1])
    for row in cells:
        table.add_row(*row)
    console = Console(markup=False, highlight=False, emoji=False)
    if sys.stdout.isatty():
        endless = console.options.update(width=_ENDLESS)
        console.width = max(console.width, Measurement.get(console, endless, table).minimum)
        console.print(table)
        return
    console.width = _ENDLESS
    with console.capture() as drawn:  # a program reads a row a line, ids whole
        console.print(table)
    print("\n".join(line.rstrip() for line in drawn.get().rstrip("\n").split("\n")))


def _cell(value: object) -> str:
    return "-" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)


def bar(share: float, width: int = 20) -> str:
    """Return a share of 1 as a bar, to an eighth of a character, with its percentage."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return f"{'█' * full}{_EIGHTHS[part]}".ljust(width) + f" {100 * share:3.0f} %"


def ago(timestamp: str | datetime | None) -> str | None:
    """Return how long ago something was, for people."""
    if timestamp is None:
        return None
    at = timestamp if isinstance(timestamp, datetime) else datetime.fromisoformat(timestamp)
    return f"{span((datetime.now(UTC) - at).total_seconds())} ago"


def span(seconds: float) -> str:
    """Return a time in its largest whole unit."""
    whole = max(int(seconds), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def tree_lines(graph: dict[str, Any]) -> list[str]:
    """Return a lineage graph drawn as trees, one line a persona; reaped ones are marked."""
    nodes = {node["persona_id"]: node for node in graph["nodes"]}
    lines: list[str] = []
    # Depth first with an explicit stack: a tree may be deeper than Python's recursion limit.
    stack = [(root, "", "") for root in reversed(graph["roots"])]
    while stack:
        persona_id, first, rest = stack.pop()
        node = nodes[persona_id]
        mark = "" if node["status"] == "active" else f" ({node['status']})"
        lines.append(f"{first}{plain(persona_id)}{mark}")
        children = [child for child in node["children"] if child in nodes]
        for index, child in reversed(list(enumerate(children))):
            last = index == len(children) - 1
            stack.append((child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")))
    return lines
