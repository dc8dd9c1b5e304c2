"""A service that is told of nobody else of its kind, so that it does what a lease would leave to another.

    python -m tests.chaos.alone scheduler

It is the service itself in all else: a scheduler takes over every shard, a compressor publishes, a registry
does every chore, each against whoever does the same.
"""

from __future__ import annotations

import runpy
import sys

from libs.bus.presence import Peers
from libs.contracts.presence import PresenceRecord


def _nobody(_: Peers) -> list[PresenceRecord]:
    return []


if __name__ == "__main__":
    Peers.living = _nobody  # type: ignore[method-assign, assignment]
    runpy.run_module(f"services.{sys.argv[1]}", run_name="__main__")
