"""Giving back to the system what batches have left free in this process's heap.

The allocator is told to keep what a model frees from one step to the next, for speed. What it keeps only
grows: a batch that finds no hole large enough is put behind all the others.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import Executor

AFTER_S = 60.0
"""Seconds from a batch to the giving back: once a minute under load, and once after the last batch."""


def trim() -> None:
    """Have glibc give back whole pages that are free, `malloc_trim(3)`: milliseconds; elsewhere nothing."""
    if _malloc_trim is not None:
        _malloc_trim(0)


class Heap:
    """Trims some time after it was used, on a thread that uses it: between two batches of that one."""

    def __init__(
        self, executor: Executor, trims: Callable[[], None] = trim, after_s: float = AFTER_S
    ) -> None:
        self._executor = executor
        self._trims = trims
        self._after_s = after_s
        self._timer: asyncio.TimerHandle | None = None

    def used(self) -> None:
        """Note a batch."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._give_back)

    def close(self) -> None:
        """Trim no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_back(self) -> None:
        self._timer = None
        self._executor.submit(self._trims)


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
