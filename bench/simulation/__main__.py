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
import sys
from importlib import import_module
from pathlib import Path

import msgspec

from bench.simulation.options import Options
from bench.simulation.report import figures, table
from bench.simulation.world import simulate


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
    for change in options.set:
        place, value = change.split("=")
        _set(place, json.loads(value))
    words = {"personas": options.personas, "hours": options.hours, "seed": options.seed}
    words |= {name: json.loads(value) for name, value in (one.split("=") for one in options.option)}
    try:
        chosen = msgspec.convert(words, Options)
    except msgspec.ValidationError as error:
        sys.exit(str(error))
    world = simulate(chosen)
    found = figures(world)
    print(json.dumps(found, indent=1) if options.json else table(found))
    if options.plot is not None:
        from bench.simulation.picture import draw

        draw(world, options.plot)


def _set(place: str, value: float) -> None:
    """Change a constant of the scheduler for this process; of a table by mood, one more name says which."""
    module_name, name, *key = place.split(".")
    module = import_module(f"services.scheduler.{module_name}")
    held = getattr(module, name)
    if key:
        held[key[0]] = value
    else:
        setattr(module, name, value)


if __name__ == "__main__":
    main()
