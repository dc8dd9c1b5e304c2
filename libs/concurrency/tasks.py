"""Background tasks with an owner that sees their end [H7].

Every task of this project belongs to `Tasks`, `Background` or `beside`: one that fails ends its owner, and
whoever watches is told of it once, by the task's own name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_AGAIN_S = 0.25
_TOLD = "_told_of"


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task has ended by an error, which its owner sees too."""

    name: str
    error: BaseException


Watcher = Callable[[TaskFailed], None]

_watcher: ContextVar[Watcher | None] = ContextVar("task_watcher", default=None)


def watch_tasks(watcher: Watcher) -> None:
    """Have `watcher` told of tasks that fail: of this task's groups, and of those of tasks started here."""
    _watcher.set(watcher)


def tell_failure(name: str, error: BaseException) -> None:
    """Tell the watcher of a failure, unless it was told of it as that of a task further in."""
    news = [leaf for leaf in leaves(error) if not hasattr(leaf, _TOLD)]
    for leaf in news:
        setattr(leaf, _TOLD, name)
        if (watcher := _watcher.get()) is not None:
            watcher(TaskFailed(name, leaf))


def told_of(error: BaseException) -> str | None:
    """Return the name of the task that an error has ended; None where it has ended none yet."""
    name: str | None = getattr(error, _TOLD, None)
    return name


class Tasks(asyncio.TaskGroup):
    """A task group that tells the watcher of tasks that fail. It waits for all of its tasks."""

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task that belongs to this group."""
        task = super().create_task(coro, name=name, context=context)
        task.add_done_callback(_note_end)
        self._note_begin(task)
        return task

    def _note_begin(self, task: asyncio.Task[Any]) -> None:
        """Take note of a task of this group."""


class Background(Tasks):
    """A task group that cancels, and awaits, what still runs when its context ends.

    A task that fails cancels the others and the body, as in every task group.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: set[asyncio.Task[Any]] = set()

    def _note_begin(self, task: asyncio.Task[Any]) -> None:
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._started:
            return await super().__aexit__(kind, error, trace)
        # Beside the group's own waiting, which alone knows what to do with the error of a task.
        async with beside(self._cancel_all(), "cancel-all"):
            return await super().__aexit__(kind, error, trace)

    async def _cancel_all(self) -> None:
        """Cancel again and again: a library's `wait_for` may swallow a cancellation (Python 3.11)."""
        while self._started:
            for task in self._started:
                task.cancel()
            await asyncio.sleep(_CANCEL_AGAIN_S)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, T], name: str) -> AsyncIterator[asyncio.Task[T]]:
    """Do something beside the context, whose end cancels and awaits it. Its error is for who looks at it."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        await ended(task)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return once they have ended, whatever by.

    They are cancelled again and again: a library's `wait_for` may swallow a cancellation (Python 3.11).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else asyncio says that nobody has looked at it


def _note_end(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        tell_failure(task.get_name(), error)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that an exception group is made of."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
