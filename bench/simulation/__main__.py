"""A day of a thousand personas in seconds: the scheduler's own parts under a clock that jumps.

    python -m bench.simulation [--personas 1000] [--hours 24] [--seed 1] [--json] [--plot FILE]
                               [--option NAME=VALUE …] [--set MODULE.NAME=VALUE …]

Simulated are the clock, the thinker and what is sent; what decides is what decides in production. `--option`
changes the day (bench/simulation/options.py), `--set` a constant of a module of the scheduler, such as
inner_state.REST_S=200. The same seed gives the same day.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import structlog

from bench.simulation.options import Options
from bench.simulation.report import figures, table
from bench.simulation.world import simulate
from libs.cli.bar import progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="MODULE.NAME=VALUE")
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    words = {"personas": options.personas, "hours": options.hours, "seed": options.seed}
    try:
        for change in options.set:
            _set(*_named(change))
        chosen = msgspec.convert(words | dict(_named(one) for one in options.option), Options)
    except (msgspec.ValidationError, ValueError) as error:
        sys.exit(str(error))
    with progress("simulated seconds", round(chosen.seconds)) as bar:
        world = simulate(chosen, lambda seconds: bar.show(round(seconds)))
    found = figures(world)
    print(json.dumps(found, indent=1) if options.json else table(found))
    if options.plot is not None:
        from bench.simulation.picture import draw

        draw(world, options.plot)


def _named(change: str) -> tuple[str, Any]:
    """Return the two sides of NAME=VALUE. Raises `ValueError` where it is none, or the value no JSON."""
    name, equals, value = change.partition("=")
    try:
        return name, json.loads(value if equals else "")
    except json.JSONDecodeError:
        raise ValueError(f"{change}: expected NAME=VALUE, with a number or other JSON as its value") from None


def _set(place: str, value: float) -> None:
    """Change a constant of the scheduler for this process; of a table by mood, one more name says which.

    Raises `ValueError` where there is no such constant.
    """
    module_name, _, name = place.partition(".")
    name, _, key = name.partition(".")
    try:
        module = import_module(f"services.scheduler.{module_name}")
        table, name = (vars(module)[name], key) if key else (vars(module), name)
        if not isinstance(table[name], int | float):
            raise TypeError
    except (ImportError, KeyError, TypeError):
        raise ValueError(f"{place}: the scheduler has no such constant; try inner_state.REST_S") from None
    table[name] = value


if __name__ == "__main__":
    main()
