"""Loading the roster at a process's start: the buckets, then the registry's records behind them."""

from __future__ import annotations

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.bus.follow import Follower, StreamMessage, read_to_end
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.read import last_of
from libs.bus.telemetry import Telemetry
from libs.contracts import streams, subjects
from libs.contracts.registry import StoredLoop, StoredPersona
from libs.journal.tail import JournalHole, Tail
from libs.roster.state import Roster

log = structlog.get_logger("load")

_decode_persona = msgspec.json.Decoder(StoredPersona).decode
_decode_loop = msgspec.json.Decoder(StoredLoop).decode


async def load(bus: Bus, tail: Tail, roster: Roster, telemetry: Telemetry) -> dict[str, int]:
    """Fill a roster and return the bucket revision of each subject. `tail` folds into the roster.

    Records of `j.registry` are trimmed only once the buckets hold them. So the records are read first: what
    is trimmed before that is in the buckets, and what is trimmed after it has been read. Where some are
    trimmed while they are read, one after the other, the buckets are read once more: they hold them by then.
    """
    while True:
        records = await tail.peek()
        revisions = await until_answered(bus, "loading personas", lambda: _restore(bus, roster, telemetry))
        try:
            for record in records:
                tail.offer(record.sequence, record.data)
            await tail.catch_up()
        except JournalHole as error:
            log.info("read_once_more", error=str(error))
            roster.pass_over()
        else:
            return revisions


async def _restore(bus: Bus, roster: Roster, telemetry: Telemetry) -> dict[str, int]:
    revisions: dict[str, int] = {}

    async def take(stored: StoredPersona, message: StreamMessage) -> None:
        roster.restore(stored)
        revisions[message.subject] = message.sequence

    loop = MessageLoop("restore-personas", _decode_persona, take, telemetry)
    await read_to_end(bus, streams.PERSONAS, loop)
    stored = await last_of(bus, streams.CONTROL, subjects.LOOP_KEY)
    if stored is not None and stored.data:
        revisions[subjects.LOOP_KEY] = stored.sequence
        try:
            roster.restore_loop(_decode_loop(stored.data))
        except UNREADABLE as error:
            log.error(
                "loop_not_read",
                subject=subjects.LOOP_KEY,
                error=str(error),
                then="unless the journal says more, the loop counts as never started; the next start writes "
                "the key anew, with a run above all that there were",
            )
    return revisions


async def follow(bus: Bus, tail: Tail, telemetry: Telemetry) -> None:
    """Fold what registries append from now on, as it comes, until cancelled."""

    async def offer(data: bytes, message: StreamMessage) -> None:
        tail.offer(message.sequence, data)

    loop = MessageLoop("follow-registry", bytes, offer, telemetry)
    follower = Follower(bus, streams.JOURNAL, loop, after=tail.sequence, subjects=[subjects.JOURNAL_REGISTRY])
    await follower.run()
