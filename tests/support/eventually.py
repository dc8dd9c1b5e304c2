"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = ..., what: str = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = ..., what: str = ...) -> T: ...
async def eventually(check: Callable[[], Any], within: float = 10.0, what: str = "the condition") -> Any:
    """Return the first truthy result of `check`; fail when there is none within so many seconds."""
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            result = check()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            last = result
        except (AssertionError, OSError, LookupError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within:g} s; last: {last!r}")
        await asyncio.sleep(0.02)


def eventually_sync(check: Callable[[], T], within: float = 10.0, what: str = "the condition") -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            result = check()
            if result:
                return result
            last = result
        except (AssertionError, OSError, LookupError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within:g} s; last: {last!r}")
        time.sleep(0.05)
