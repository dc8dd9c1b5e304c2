"""What a new owner finds in the work queue: thoughts that the old one dispatched, and that still count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.bus.queue import last_delivered, purge_message
from libs.bus.read import next_of
from libs.contracts import streams, subjects
from libs.contracts.work import Chunk, Ticket
from services.scheduler.dispatches import PREVIOUS_OWNER
from services.scheduler.due import Due
from services.scheduler.owner import ShardOwner

_decode = msgspec.json.Decoder(Chunk).decode


async def adopt(
    bus: Bus,
    owner: ShardOwner,
    run: int | None,
    queued: Callable[[Ticket, ShardOwner, str | None], Due | None],
) -> int:
    """Enter the shard's queued chunks into its table and return how many thoughts are under way.

    A chunk none of whose thoughts is wanted any more is deleted; of others, thoughts that are stored are left
    out. What was delivered already counts as being thought, whoever thinks it; what was not may still be
    withdrawn. Contexts are what the owner knows now: the persona itself has had no thought since the tick.
    """
    delivered = await last_delivered(bus, streams.THINK, streams.THINKERS)
    now = asyncio.get_running_loop().time()
    sequence = 0
    while (found := await next_of(bus, streams.THINK, subjects.think(owner.shard), sequence + 1)) is not None:
        sequence = found.sequence
        try:
            chunk = _decode(found.data)
        except UNREADABLE:
            continue  # the thinker that gets it buries it
        wanted = [
            queued(ticket, owner, chunk.traces.get(ticket.persona_id))
            for ticket in chunk.items
            if owner.wants(ticket)
        ]
        dues = [due for due in wanted if due is not None]
        if chunk.run != run or owner.is_halted(chunk.run) or not dues:  # it may have been halted meanwhile
            await purge_message(bus, streams.THINK, sequence)
            continue
        dispatch = owner.dispatches.begin(chunk, dues, now, sequence)
        if sequence <= delivered:
            dispatch.granted_to = PREVIOUS_OWNER
    return len(owner.dispatches)
