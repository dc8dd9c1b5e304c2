"""The INBOX stream as a scheduler reads it: one follower for all its shards. What is settled is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.queue import purge_message
from libs.bus.read import message_at, stream_state
from libs.bus.telemetry import Telemetry
from libs.concurrency.tasks import Background
from libs.contracts import streams
from libs.roster.state import Roster
from services.scheduler.mailbox import Arrival, Mailbox, News, Sync
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.offers import Offers
from services.scheduler.owner import ShardOwner

log = structlog.get_logger("inboxes")

_LOOK_S = 0.25
_AT_ONCE = 32


class Inboxes:
    """The mailboxes of the shards that this process owns."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        sync: Sync,
        owners: Mapping[int, ShardOwner],
        news: News,
        offers: Offers,
        metrics: SchedulerMetrics,
        telemetry: Telemetry,
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._sync = sync
        self._owners = owners
        self._news = news
        self._offers = offers
        self._metrics = metrics
        self._telemetry = telemetry
        self._open: dict[str, Mailbox] = {}
        self.settled = asyncio.Event()
        """Set when something waits to be deleted."""

        self._begun = asyncio.Event()
        """Set once it is known from where the stream is followed: a shard that reads before may miss some."""

    async def run(self) -> None:
        """Follow the stream until cancelled: a shard's own reading begins with what is held."""
        state = await until_answered(
            self._bus, "reading the end of INBOX", lambda: stream_state(self._bus, streams.INBOX)
        )
        self._begun.set()
        loop = MessageLoop("inbox", bytes, self._take, self._telemetry)
        await Follower(self._bus, streams.INBOX, loop, after=int(state["last_seq"])).run()

    async def _take(self, data: bytes, message: StreamMessage) -> None:
        mailbox = self._open.get(message.subject.split(".")[1])
        if mailbox is not None:
            mailbox.offer(Arrival(message.subject, message.sequence, data, message.at))

    @asynccontextmanager
    async def opened(self, owner: ShardOwner) -> AsyncIterator[None]:
        """Keep a shard's inboxes while the context is open; it begins once what was held is in them."""
        async with Background() as tasks:
            mailbox = Mailbox(
                self._bus, owner, self._roster, self._sync, self._news, self._offers.copied, self._metrics
            )
            self._open[str(owner.shard)] = mailbox
            self._offers.enter(owner)
            try:
                await self._begun.wait()
                await mailbox.load()
                self._offers.loaded(owner)
                self.settled.set()  # a checkpoint may have brought what its last owner had not deleted
                tasks.create_task(mailbox.run(), name=f"mailbox-{owner.shard}")
                yield
            finally:
                del self._open[str(owner.shard)]
                self._offers.leave(owner)

    async def sweep(self) -> None:
        """Delete from the stream, again and again, what its journal says is handled or dropped."""
        while True:
            await self.settled.wait()
            await asyncio.sleep(_LOOK_S)
            self.settled.clear()
            for owner in list(self._owners.values()):
                if not await self._sweep(owner.ledger.settled):
                    self.settled.set()

    async def _sweep(self, settled: set[int]) -> bool:
        """Delete a shard's settled messages; false where some may still be there."""
        while settled and self._bus.connected:
            some = sorted(settled)[:_AT_ONCE]
            gone = await asyncio.gather(*(self._delete(sequence) for sequence in some))
            settled.difference_update(s for s, went in zip(some, gone, strict=True) if went)
            if not all(gone):
                break
        return not settled

    async def _delete(self, sequence: int) -> bool:
        """Delete a message; false where it may still be there."""
        try:
            return await purge_message(self._bus, streams.INBOX, sequence) or (
                await message_at(self._bus, streams.INBOX, sequence) is None
            )
        except BusError as error:
            log.debug("not_deleted", sequence=sequence, error=str(error))
            return False
