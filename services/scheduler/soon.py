"""How long whoever is asked waits for the journal: as long as whoever asks waits for the answer.

A journal that nobody publishes takes nothing for as long as that lasts. Who waited for it would keep a place
of the gate that all shards of a process share, until it answers for none of them.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from libs.bus.loop import Postpone

T = TypeVar("T")

ANSWERED_WITHIN_S = 1.0


class NotYet(Postpone):
    """What was asked for is under way, and may come to its end later; ask again."""


async def soon(what: str, work: asyncio.Future[T]) -> T:
    """Wait a while for what goes on in any case. Raises `NotYet`, or what it ends by."""
    if not work.done():
        await asyncio.wait([work], timeout=ANSWERED_WITHIN_S)
    if not work.done():
        raise NotYet(f"{what} takes longer than {ANSWERED_WITHIN_S:g} s")
    return work.result()
