"""Background tasks with an owner that sees their end [H7]."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_AGAIN_S = 0.25


class Background(asyncio.TaskGroup):
    """A task group that cancels, and awaits, what still runs when its context ends.

    A task that fails cancels the others and the body, as in every task group.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: set[asyncio.Task[Any]] = set()

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task that belongs to this group."""
        task = super().create_task(coro, name=name, context=context)
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._started:
            return await super().__aexit__(kind, error, trace)
        # Beside the group's own waiting, which alone knows what to do with the error of a task.
        cancelling = asyncio.create_task(self._cancel_all())
        try:
            return await super().__aexit__(kind, error, trace)
        finally:
            cancelling.cancel()

    async def _cancel_all(self) -> None:
        """Cancel again and again: a library's `wait_for` may swallow a cancellation (Python 3.11)."""
        while self._started:
            for task in self._started:
                task.cancel()
            await asyncio.sleep(_CANCEL_AGAIN_S)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that an exception group is made of."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
