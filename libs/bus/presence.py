"""Who is there: each process renews a key with a TTL, and everybody can watch [H9].

Presence decides who *should* do a piece of work, so that two do not do it at once. It never decides who
*may*: that is fenced by the journal's expected sequences, because clocks and leases can lie.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import blake2b
from math import inf

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import (
    UNREADABLE,
    BusError,
    InstanceTaken,
    OutcomeUnknown,
    PublishRefused,
    WrongLastSequence,
)
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.publisher import TTL, expecting
from libs.bus.read import batch, last_of
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.waiting import set_within
from libs.contracts import streams, subjects
from libs.contracts.limits import PRESENCE_TTL_S
from libs.contracts.presence import PresenceRecord
from libs.contracts.tokens import encode

log = structlog.get_logger("presence")

_RENEW_S = PRESENCE_TTL_S / 3.5
_SILENCE_S = 2 * _RENEW_S
"""A watch that has brought nothing for so long, in seconds, tells nothing of anybody."""

_LEAVE_WITHIN_S = 1.0
_LEAVING_TTL_S = 1
_MOST_PROCESSES = 1000
_DELETED = {"KV-Operation": "DEL", TTL: f"{_LEAVING_TTL_S}s"}

_decode = msgspec.json.Decoder(PresenceRecord).decode


class Presence:
    """This process's own key. `current` gives the record as it is now."""

    def __init__(self, bus: Bus, current: Callable[[], PresenceRecord]) -> None:
        self._bus = bus
        self._current = current
        self._changed = asyncio.Event()
        first = current()
        self._service, self._instance = first.service, first.instance
        self._boot = first.boot
        self.subject = subjects.presence_key(first.service, first.instance)
        """This process's key."""

        self._revision: int | None = None
        self._held = False

    def changed(self) -> None:
        """Renew now: the record says something new."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the key alive until cancelled, then delete it. Raises `InstanceTaken`."""
        try:
            while True:
                self._changed.clear()
                await self._renew()
                await set_within(self._changed, _RENEW_S)
        finally:
            await self._leave()

    async def _renew(self) -> None:
        if self._revision is None:
            await self._find()
        try:
            async with asyncio.timeout(_RENEW_S):
                self._revision = await self._put(msgspec.json.encode(self._current()))
            self._held = True
        except WrongLastSequence:
            await self._find()
            self._changed.set()
        except TimeoutError:  # it may be lost, and the key is not to expire over that
            self._revision = None
            self._changed.set()
        except (OutcomeUnknown, PublishRefused) as error:
            self._revision = None
            log.debug("presence_not_renewed", error=str(error))

    async def _find(self) -> None:
        """Learn the key's revision; another living process of this name that came later wins.

        A process that has not held the key yet is the one that came later, whatever clocks say.
        """
        try:
            found = await last_of(self._bus, streams.LEASES, self.subject)
        except BusError:
            return
        self._revision = found.sequence if found is not None else 0
        holder = _read(found.data) if found is not None else None
        if not self._held or holder is None or holder.boot == self._boot:
            return
        if holder.since > self._current().since:
            self._revision = None  # the key is theirs: leaving must not delete it
            raise InstanceTaken(self._service, self._instance)

    async def _put(self, data: bytes) -> int:
        headers = {TTL: f"{PRESENCE_TTL_S:.0f}s"} | expecting(self._revision or 0)
        return await self._bus.publish(self.subject, data, headers)

    async def _leave(self) -> None:
        """Say at once that this process is gone, or what has ended it, instead of letting the key expire."""
        if not self._bus.connected or self._revision is None:
            return
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                try:
                    await self._say_last()
                except WrongLastSequence:  # a renewal was under way when we were told to end
                    await self._find()
                    await self._say_last()

    async def _say_last(self) -> None:
        last = self._current()
        if last.ended is not None:
            await self._put(msgspec.json.encode(last))
        else:
            await self._bus.publish(self.subject, b"", _DELETED | expecting(self._revision or 0))


class Peers:
    """Which processes of a service are there, kept current by a watch of their keys alone, and of `own`.

    That is this process's own key. A peer whose key has not been renewed for the TTL counts as gone, by this
    process's monotonic clock. Where the watch brings nothing, not even the own key, nobody could renew, as
    while the broker is away or elects a leader: such time does not count, and once it is over the TTL begins.
    """

    def __init__(self, bus: Bus, service: str, own: str) -> None:
        self._bus = bus
        self._service = service
        self._heard = -inf
        """When the watch brought something last, by the loop's clock."""

        self._since = -inf
        """Since when it has brought something without a silence."""

        self._seen: dict[str, tuple[float, PresenceRecord]] = {}
        loop = MessageLoop[bytes, StreamMessage]("presence", bytes, self._handle, NoTelemetry())
        keys = subjects.presence_keys(service)
        watched = [keys] if own.startswith(keys.removesuffix("*")) else [keys, own]
        self._follower = Follower(bus, streams.LEASES, loop, subjects=watched)
        self.changed = asyncio.Event()
        """Set when one comes, leaves, or is ready or no more so; not when one falls silent."""

    async def prime(self) -> None:
        """Learn who is there now, before a decision hangs on it. Waits for the broker."""
        there = await until_answered(self._bus, "reading who is there", lambda: list_present(self._bus))
        now = asyncio.get_running_loop().time()
        for record in there:
            if record.service == self._service:
                self._seen[encode(record.instance)] = (now, record)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._follower.run()

    def living(self) -> list[PresenceRecord]:
        """Return the processes that are there, sorted by instance name."""
        self._forget_silent()
        return sorted((record for _, record in self._seen.values()), key=lambda record: record.instance)

    def first_gone_at(self) -> float:
        """Return when, by the loop's clock, the first of those who are there counts as gone if it is silent.

        Infinite where nobody is there.
        """
        now = asyncio.get_running_loop().time()
        ends = (self._end(seen) for seen, _ in self._seen.values())
        return min((end for end in ends if end > now), default=inf)

    def _end(self, seen: float) -> float:
        return max(seen, self._since) + PRESENCE_TTL_S

    def _forget_silent(self) -> None:
        until = min(asyncio.get_running_loop().time(), self._heard + _SILENCE_S)
        self._seen = {key: peer for key, peer in self._seen.items() if self._end(peer[0]) > until}

    def _note_heard(self) -> None:
        self._forget_silent()
        now = asyncio.get_running_loop().time()
        if now - self._heard > _SILENCE_S:
            self._since = now
        self._heard = now

    async def _handle(self, data: bytes, message: StreamMessage) -> None:
        self._note_heard()
        service, key = message.subject.split(".")[2:]
        if service != self._service:
            return
        before = self._seen.get(key)
        if data:
            record = _read(data)
            if record is None:
                return
            self._seen[key] = (asyncio.get_running_loop().time(), record)
            if before is None or (before[1].leaving, before[1].ready) != (record.leaving, record.ready):
                self.changed.set()
        elif self._seen.pop(key, None) is not None:
            self.changed.set()


def chosen(candidates: Iterable[str], work: str) -> str | None:
    """Return which candidate should do a piece of work: highest hash of both (rendezvous hashing).

    When a candidate comes or goes, only its own share of the work moves. The hash is one that mixes: under a
    linear one, as CRC-32, names that differ in a digit get very unequal shares.
    """
    return max(candidates, key=lambda name: (_weight(name, work), name), default=None)


def _weight(name: str, work: str) -> bytes:
    return blake2b(f"{name}/{work}".encode(), digest_size=8).digest()


def in_charge(peers: Peers, service: str, instance: str) -> Callable[[], bool]:
    """Return whether, of a service's processes, this one is to do what one alone should do."""

    def is_in_charge() -> bool:
        there = {record.instance for record in peers.living() if not record.leaving}
        return chosen(there | {instance}, service) == instance

    return is_in_charge


async def take_leave(bus: Bus, service: str, instance: str, ended: datetime) -> None:
    """Say for a process of this host that it is gone, unless one of its name has begun since it ended.

    Raises `BusError`.
    """
    key = subjects.presence_key(service, instance)
    found = await last_of(bus, streams.LEASES, key)
    holder = _read(found.data) if found is not None else None
    if found is None or holder is None or holder.host != socket.gethostname() or holder.since > ended:
        return
    with contextlib.suppress(WrongLastSequence):
        await bus.publish(key, b"", _DELETED | expecting(found.sequence))


async def list_present(bus: Bus) -> list[PresenceRecord]:
    """Return every process whose key is alive, sorted by service and instance."""
    found = await batch(bus, streams.LEASES, {"multi_last": ["$KV.leases.>"], "batch": _MOST_PROCESSES})
    records = (_read(stored.data) for stored in sorted(found, key=lambda s: s.subject))
    return [record for record in records if record is not None]


def _read(data: bytes) -> PresenceRecord | None:
    """Return what a key says; nothing where it is deleted, or not written by a process of ours."""
    try:
        return _decode(data) if data else None
    except UNREADABLE as error:
        log.warning("presence_not_read", error=str(error))
        return None
