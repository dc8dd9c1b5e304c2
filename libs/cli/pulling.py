"""What `perpetua model pull` prints meanwhile: bars on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from libs.models.needs import Needs, size
from libs.models.pull import Found
from libs.runtime.plain import plain
from libs.supervisor.text import style

_EVERY_S = 1.0
_TENTHS = 10
_LAYERS = "layers"
_CHECKSUM = "checksum of "


class _Bars(Protocol):
    def show(self, what: str, done: int, total: int) -> None:
        """Show how far something is."""


class Screen:
    """Reports a pull to people, on standard output."""

    def __init__(self, bars: _Bars) -> None:
        self._bars = bars

    def found(self, model: Found, needs: Needs) -> None:
        """Say what it is, under which licence, and what it will take, before it is taken."""
        at = f" at {model.revision[:12]}" if model.revision else ""
        page = f" ({model.licence_page})" if model.licence_page else ""
        _line(
            "model",
            f"{model.name}: {model.source}{at}, {model.family}, {_count(model.parameters)} parameters",
        )
        _line("licence", f"{model.licence or 'not named; see its page'}{page}")
        fetched = f"{size(needs.download)} to download, " if needs.download else ""
        _line(
            "needs",
            f"{fetched}about {size(needs.disk)} of disk while it works, {size(needs.kept)} to keep "
            f"({model.compute_type}); about {size(needs.memory)} of memory",
        )

    def at(self, name: str, done: int, total: int) -> None:
        """Show how far a file is."""
        self._bars.show(name, done, total)

    def compared(self, name: str, done: int, total: int) -> None:
        """Show how far a file's checksum is."""
        self._bars.show(f"{_CHECKSUM}{name}", done, total)

    def step(self, text: str) -> None:
        """Say what is being done."""
        _line("now", text)

    def layer(self, done: int, total: int) -> None:
        """Show how far the check is."""
        self._bars.show(_LAYERS, done, total)


class JsonScreen:
    """Reports a pull to programs: one object a line on standard error, about one a second."""

    def __init__(self) -> None:
        self._said = 0.0

    def found(self, model: Found, needs: Needs) -> None:
        """Say what it is and takes."""
        import msgspec

        _emit("found", **msgspec.to_builtins(model), needs=msgspec.to_builtins(needs))

    def at(self, name: str, done: int, total: int) -> None:
        """Say how far a file is."""
        self._progress("downloading", file=name, done=done, total=total)

    def compared(self, name: str, done: int, total: int) -> None:
        """Say how far a file's checksum is."""
        self._progress("comparing", file=name, done=done, total=total)

    def step(self, text: str) -> None:
        """Say what is being done."""
        _emit("step", step=text)

    def layer(self, done: int, total: int) -> None:
        """Say how far the check is."""
        self._progress("checking", done=done, total=total)

    def _progress(self, event: str, **fields: Any) -> None:
        now = time.monotonic()
        if fields["done"] == fields["total"] or now - self._said >= _EVERY_S:
            self._said = now
            _emit(event, **fields)


class _Lines:
    """For a pipe: a line for each tenth of what is large enough to wait for."""

    def __init__(self) -> None:
        self._tenths: dict[str, int] = {}

    def show(self, what: str, done: int, total: int) -> None:
        tenth = _TENTHS * done // total if total else _TENTHS
        if total >= 1 << 20 and self._tenths.get(what) != tenth:
            self._tenths[what] = tenth
            compared = what.startswith(_CHECKSUM)
            _line("compared" if compared else "fetched", f"{what}: {size(done)} of {size(total)}")


class _Live:
    """For a terminal: bars, by rich."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(plain(what), total=total, amount="")
        amount = f"{done} of {total}" if what == _LAYERS else f"{size(done)} of {size(total)}"
        self._progress.update(self._tasks[what], completed=done, total=total, amount=amount)


@contextmanager
def screen(*, as_json: bool) -> Iterator[Screen | JsonScreen]:
    """Give the screen that suits whoever reads it."""
    if as_json:
        yield JsonScreen()
    elif not sys.stdout.isatty():
        yield Screen(_Lines())
    else:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        amount = TextColumn("{task.fields[amount]}")
        columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
        with Progress(*columns) as progress:
            yield Screen(_Live(progress))


def _line(what: str, text: str) -> None:
    print(f"{style(what, 'bold')}{' ' * (9 - len(what))}{plain(text)}", flush=True)


def _emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} G" if parameters >= 1e9 else f"{parameters / 1e6:.0f} M"
