"""How far a pipelined publication has come. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Progress:
    """Counts what is outstanding of each journal record; `position` is where nothing is outstanding below."""

    def __init__(self, position: int, moved: Callable[[], None] = lambda: None) -> None:
        self.position = position
        """Everything of journal records up to this sequence is stored."""

        self._moved = moved
        self._open: OrderedDict[int, int] = OrderedDict()

    @property
    def outstanding(self) -> int:
        """How many records are not stored completely."""
        return len(self._open)

    def begin(self, sequence: int, count: int) -> None:
        """Note that a record's `count` messages are being published. Records come in order."""
        self._open[sequence] = count
        self._advance()

    def stored(self, sequence: int) -> None:
        """Note that one message of a record is stored."""
        self._open[sequence] -= 1
        self._advance()

    def _advance(self) -> None:
        while self._open:
            sequence, left = next(iter(self._open.items()))
            if left:
                return
            del self._open[sequence]
            self.position = max(self.position, sequence)
            self._moved()
