"""When `perpetua up` is to end: asked once, in order; asked again, at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

_SAME_S = 0.5
"""Asked twice within so many seconds is asked once: a terminal and a wrapper pass the same Ctrl-C on [H8]."""


class Ending:
    """Whether the end was asked for, by a signal, and how soon."""

    def __init__(self, on_again: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        """Nothing is waited for any more."""

        self._on_again = on_again
        self._first = 0.0

    def heed_signals(self) -> None:
        """Take Ctrl-C, SIGTERM and a closed terminal for the wish to end; under `nohup` not the last."""
        loop = asyncio.get_running_loop()
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        for number in heeded:
            loop.add_signal_handler(number, self._ask, loop)

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.asked.is_set():
            self.asked.set()
            self._first = loop.time()
        elif loop.time() - self._first > _SAME_S and not self.at_once.is_set():
            self.at_once.set()
            self._on_again()
