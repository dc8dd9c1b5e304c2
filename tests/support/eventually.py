"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

WITHIN_S = 30.0
"""Guards against hanging, and costs nothing where all is well."""

_PAUSE_COUNTS_S = 0.5
"""The most that a pause between two looks counts: while the machine stood still, nothing could come true."""

_NOT_YET = (AssertionError, OSError, LookupError, StopIteration)


class _Patience:
    """The time that has passed between looks."""

    def __init__(self, within: float, what: str) -> None:
        self._within, self._what = within, what
        self._passed = 0.0
        self._at = time.monotonic()

    def looked(self, last: object) -> None:
        """Fail where the time was over and the condition did not hold."""
        now = time.monotonic()
        self._passed += now - self._at
        self._at = now
        if self._passed > self._within:
            raise AssertionError(f"{self._what} did not hold within {self._within:g} s; last: {last!r}")

    def paused(self) -> None:
        now = time.monotonic()
        self._passed += min(now - self._at, _PAUSE_COUNTS_S)
        self._at = now


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = ..., what: str = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = ..., what: str = ...) -> T: ...
async def eventually(check: Callable[[], Any], within: float = WITHIN_S, what: str = "the condition") -> Any:
    """Return the first truthy result of `check`; fail when there is none within so many seconds."""
    patience = _Patience(within, what)
    last: object = None
    while True:
        try:
            result = check()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            last = result
        except _NOT_YET as error:
            last = error
        patience.looked(last)
        await asyncio.sleep(0.02)
        patience.paused()


def eventually_sync(check: Callable[[], T], within: float = WITHIN_S, what: str = "the condition") -> T:
    """The same for tests without an event loop."""
    patience = _Patience(within, what)
    last: object = None
    while True:
        try:
            result = check()
            if result:
                return result
            last = result
        except _NOT_YET as error:
            last = error
        patience.looked(last)
        time.sleep(0.05)
        patience.paused()
