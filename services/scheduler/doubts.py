"""Questions whether a shard is still ours. Each is answered by a read of its journal that began after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Doubts:
    """What was asked and is not answered yet."""

    def __init__(self) -> None:
        self._asked: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._asked)

    def ask(self) -> asyncio.Future[None]:
        """Return a future that is done once a read has found the shard ours; nobody need wait for it."""
        doubt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        doubt.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._asked.append(doubt)
        return doubt

    async def end(self, read: Callable[[], Awaitable[None]]) -> None:
        """Read until nothing is asked; once at least. What reading raises leaves everything to `refuse`."""
        while True:
            asked = list(self._asked)
            await read()
            del self._asked[: len(asked)]
            for one in asked:
                if not one.done():
                    one.set_result(None)
            if not self._asked:
                return

    def refuse(self, error: Exception) -> None:
        """Answer everything by an error."""
        for one in self._asked:
            if not one.done():
                one.set_exception(error)
        self._asked.clear()
