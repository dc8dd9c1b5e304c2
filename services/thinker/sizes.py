"""How many chunks to ask the work queue for: it counts messages, room is counted in thoughts. Pure."""

from __future__ import annotations

from math import ceil

from libs.contracts.limits import CHUNK_PERSONAS
from libs.contracts.work import Chunk

_AVERAGED = 0.1
_AT_ONCE = 16
"""So many small chunks are asked for at once at most: each may turn out to be a full one."""


class ChunkSizes:
    """The usual size of a chunk, by those that have come."""

    def __init__(self) -> None:
        self._usual = float(CHUNK_PERSONAS)

    def came(self, chunk: Chunk) -> None:
        """Note a chunk. A larger one than usual counts at once, smaller ones little by little.

        Thoughts alone say nothing of the chunks behind them: those are as large as ever.
        """
        if not chunk.alone:
            size = len(chunk.items)
            self._usual = max(size, self._usual + (size - self._usual) * _AVERAGED)

    def chunks(self, room: int) -> int:
        """Return how many chunks to ask for where there is room for so many thoughts."""
        usual = ceil(room / self._usual)
        return max(0, min(usual, max(_AT_ONCE, ceil(room / CHUNK_PERSONAS))))
