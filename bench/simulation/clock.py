"""An event loop whose time passes at once: whoever waits for the next thing to happen has waited already."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

BEGIN = 1_767_571_200.0
"""Wall time, in seconds since the epoch, at which every simulation begins: Monday 2026-01-05, 00:00 UTC."""


_newest: JumpingLoop


class StoodStill(Exception):
    """Nobody will ever do anything again: everything waits, and nothing is due."""


class _Jumping(selectors.SelectSelector):
    """Waits for nothing outside the process; the time it was to wait has passed when it returns."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StoodStill
        self.passed += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0 and jumps from one due call to the next. Two runs of a program are the same."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own; `wall` tells that loop's time."""
    global _newest
    _newest = JumpingLoop()
    with asyncio.Runner(loop_factory=lambda: _newest) as runner:
        return runner.run(main)


def wall() -> float:
    """Return the simulated wall time in seconds since the epoch."""
    return BEGIN + _newest.time()
