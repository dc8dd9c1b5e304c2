"""Reaping in steps, each of which may be repeated [2.8, 2.9].

1. `j.registry` says that the personas are reaped: schedulers stop ticking them.
2. A marker in each of their shards refuses what is still being thought.
3. `j.registry` announces them: no thought of theirs can follow in the stream.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.concurrency.waiting import set_within
from libs.contracts import subjects
from libs.contracts.journal import Reaping, ShardRecord
from libs.contracts.personas import ReapPersonaRequest, ReapPersonaResponse
from libs.contracts.refusals import Unavailable
from libs.contracts.tokens import shard_of
from libs.journal.tail import JournalFull, append_marker
from libs.roster.state import Roster
from services.registry.committer import Committer
from services.registry.rules import REAPED_AT_ONCE, Rules, announce

log = structlog.get_logger("reaping")

_ANNOUNCED_WITHIN_S = 1.0
_RETRY_S = 0.5
_LOOK_S = 2.0


class Reaper:
    """Reaps on request and announces what is reaped, also what another registry left half done."""

    def __init__(
        self, bus: Bus, committer: Committer, roster: Roster, rules: Rules, in_charge: Callable[[], bool]
    ) -> None:
        self._bus = bus
        self._committer = committer
        self._roster = roster
        self._rules = rules
        self._in_charge = in_charge
        self._to_announce: dict[str, None] = {}
        self._fenced: set[str] = set()
        self._wake = asyncio.Event()
        self._announced = asyncio.Event()

    async def reap(self, persona_id: str, request: ReapPersonaRequest) -> ReapPersonaResponse:
        """Reap and return who was. Answers once it is decided and, mostly, announced."""
        at = self._rules.now()
        reaped = await self._reap_all(persona_id, request, at)
        if reaped:
            self._to_announce.update(dict.fromkeys(reaped))
            self._wake.set()
            await self._until_announced(reaped)
        return ReapPersonaResponse(reaped_ids=reaped, count=len(reaped))

    async def _reap_all(self, persona_id: str, request: ReapPersonaRequest, at: datetime) -> list[str]:
        reaped: list[str] = []
        while True:
            done = await self._committer.commit(lambda view: self._rules.reap(view, persona_id, request, at))
            if not done.decision.changes:
                return reaped
            (change,) = done.decision.changes
            assert isinstance(change, Reaping)
            reaped += change.persona_ids
            if len(change.persona_ids) < REAPED_AT_ONCE:
                return reaped

    async def _until_announced(self, reaped: list[str]) -> None:
        try:
            async with asyncio.timeout(_ANNOUNCED_WITHIN_S):
                while any(persona_id in self._to_announce for persona_id in reaped):
                    self._announced.clear()
                    await self._announced.wait()
        except TimeoutError:
            log.info("announcement_takes_longer", personas=len(reaped))

    async def run(self) -> None:
        """Announce until cancelled."""
        while True:
            self._wake.clear()
            if self._in_charge():
                self._to_announce.update(dict.fromkeys(r.identity.id for r in self._roster.unannounced()))
            if self._to_announce:
                await self._announce(list(self._to_announce)[:REAPED_AT_ONCE])
                continue
            await set_within(self._wake, _LOOK_S)

    async def _announce(self, persona_ids: list[str]) -> None:
        """Announce those whose shard takes a marker; the others wait behind whoever else is reaped."""
        try:
            fenced = await self._fence(persona_ids)
            if fenced:
                await self._committer.commit(lambda view: announce(view, fenced))
        except (BusError, Unavailable) as error:
            log.warning("not_announced_yet", error=str(error))
            await asyncio.sleep(_RETRY_S)
            return
        for persona_id in persona_ids:
            del self._to_announce[persona_id]
        self._to_announce.update(dict.fromkeys(name for name in persona_ids if name not in self._fenced))
        self._fenced.difference_update(fenced)
        if fenced:
            self._announced.set()
        else:
            await asyncio.sleep(_RETRY_S)

    async def _fence(self, persona_ids: list[str]) -> list[str]:
        """Mark shards, each once: a shard whose journal is full must neither fill nor hold up the others.

        Return those whose shard is marked.
        """
        by_shard: dict[int, list[str]] = defaultdict(list)
        for persona_id in persona_ids:
            if persona_id not in self._fenced:
                by_shard[shard_of(persona_id)].append(persona_id)
        for shard, names in by_shard.items():
            marker = msgspec.json.encode(ShardRecord(reap=names))
            try:
                await append_marker(self._bus, subjects.journal(shard), marker)
            except JournalFull as error:
                log.warning("not_announced_yet", shard=shard, personas=len(names), error=str(error))
            else:
                self._fenced.update(names)
        return [persona_id for persona_id in persona_ids if persona_id in self._fenced]
