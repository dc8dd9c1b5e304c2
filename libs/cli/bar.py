"""A bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """Shows how far something is."""

    def show(self, done: int) -> None:
        """Show how many are through."""


class _Silent:
    def show(self, done: int) -> None:
        """Show nothing: standard error is no terminal."""


class _Live:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def show(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


@contextmanager
def progress(what: str, total: int) -> Iterator[Bar]:
    """A bar for so many of something, while the context is open."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield _Live(shown, shown.add_task(what, total=total))
