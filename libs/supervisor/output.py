"""What `perpetua up` prints goes out by a thread of its own: a blocked terminal holds up nobody.

Ctrl-S, or a pipe that nobody reads, would else keep a write for ever, and with it whoever restarts processes.
Non-blocking writes would be no way out: that property is shared with whoever else has the terminal open.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from libs.supervisor.errors import no_thread

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_MOST_BYTES = 256 * 1024
_LAST_S = 1.0
"""What still waits at the end is given up after so many seconds."""


class Output(io.BufferedIOBase):
    """A file whose writes return at once: what waits is bounded, and the oldest of it gives way."""

    name = "output"

    def __init__(self, descriptor: int, left_out: Callable[[int], bytes], most: int = _MOST_BYTES) -> None:
        """`left_out` makes a line that says how many gave way. Raises `RuntimeError` without a thread."""
        super().__init__()
        self._descriptor = descriptor
        self._left_out = left_out
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._idle = True
        threading.Thread(target=self._write_on, name=self.name, daemon=True).start()

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that is written to in the end."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        """Have whole lines written, some time; they are shown, or left out, together."""
        lines = bytes(data)
        with self._changed:
            self._waiting.append(lines)
            self._held += len(lines)
            while self._held > self._most and len(self._waiting) > 1:
                self._dropped += self._taken().count(b"\n")
            self._idle = False
            self._changed.notify_all()
        return len(lines)

    def finish(self, within_s: float) -> None:
        """Return once all is written, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, within_s)

    def _taken(self) -> bytes:
        lines = self._waiting.popleft()
        self._held -= len(lines)
        return lines

    def _write_on(self) -> None:
        while True:
            self._put(self._next())

    def _next(self) -> bytes:
        with self._changed:
            self._idle = not self._waiting
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting)
            if not self._dropped:
                return self._taken()
            dropped, self._dropped = self._dropped, 0
        return self._left_out(dropped)

    def _put(self, data: bytes) -> None:
        """Write. A full disk loses it, and a reader that is gone all of it: nothing else."""
        with suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]


@contextmanager
def unblocked(stream: TextIO, left_out: Callable[[int], str]) -> Iterator[TextIO]:
    """Yield a stream that writes where another does, and holds up nobody. Raises `UpError`."""

    def line(count: int) -> bytes:
        return f"{left_out(count)}\n".encode(stream.encoding, "backslashreplace")

    try:
        output = Output(stream.fileno(), line)
    except RuntimeError as error:
        raise no_thread(error) from error
    try:
        yield io.TextIOWrapper(output, stream.encoding, "backslashreplace", write_through=True)
    finally:
        output.finish(_LAST_S)
