"""What both cadences have in common: whose thoughts a scheduler begins, and whether it begins any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from libs.contracts.journal import ThoughtEntry
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import LoopPhase, LoopState
from libs.contracts.tokens import shard_of
from libs.contracts.work import Waiting
from libs.roster.state import Roster
from services.scheduler.owner import ShardOwner


class Ticking:
    """The active personas of the shards that this process owns, while the loop runs."""

    def __init__(self, roster: Roster, owners: Mapping[int, ShardOwner], enabled: bool) -> None:
        self.last_tick_at: datetime | None = None
        """By the wall clock, as it was then."""

        self.ticked_at: float | None = None
        """The same, by the loop's clock, which does not jump."""

        self._roster = roster
        self._owners = owners
        self._enabled = enabled
        self._members: dict[int, dict[str, None]] = {}
        self._personas = 0
        self._wake = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    @property
    def run_now(self) -> int | None:
        """The run whose thoughts are wanted now; None while the loop does not run."""
        loop = self._roster.loop
        return loop.run if self._enabled and loop is not None and loop.phase is LoopPhase.RUNNING else None

    @property
    def ticking(self) -> bool:
        """Whether this process ticks."""
        return self.run_now is not None and bool(self._owners)

    @property
    def personas(self) -> int:
        """How many personas this process ticks while the loop runs."""
        return self._personas

    def loop_changed(self) -> None:
        """Begin, end or pace the ticking as the roster now says. Everybody is due at once on a start."""
        self._wake.set()

    def enter(self, shard: int) -> None:
        """Begin to tick a shard's personas."""
        members = self._active(shard)
        self._members[shard] = dict.fromkeys(members)
        self._personas += len(members)

    def leave(self, shard: int) -> None:
        """Tick a shard's personas no more."""
        self._personas -= len(self._members.pop(shard, ()))

    def spawned(self, persona_id: str) -> bool:
        """Tick a new persona, where its shard is ours; whether it is, and the persona new."""
        members = self._members.get(shard_of(persona_id))
        if members is None or persona_id in members:
            return False
        members[persona_id] = None
        self._personas += 1
        return True

    def reaped(self, persona_ids: Iterable[str]) -> None:
        """Tick these no more."""
        for persona_id in persona_ids:
            members = self._members.get(shard_of(persona_id), {})
            if persona_id in members:
                del members[persona_id]
                self._personas -= 1

    def news(self, persona_id: str, urgent: bool) -> None:
        """Note that something came for a persona to think about [A11, A12]."""

    def remembered(self, persona_id: str) -> None:
        """Note that a persona's shared memory has something new."""

    def waits_changed(self, persona_id: str) -> None:
        """Note that a persona is to wait for others than before [A15]."""

    def waits_for(self, persona_id: str) -> list[str]:
        """Return whom a persona waits for before it thinks again; nobody where no cadence heeds it."""
        return []

    def settled(self, thoughts: list[ThoughtEntry]) -> None:
        """Note that thoughts are stored."""

    def next_look(self, persona_id: str) -> datetime | None:
        """Return when a persona looks next whether it has reason to think; None where there are no looks."""

    def granted(self, waited: float) -> None:
        """Note for how many seconds a chunk has waited for its thinker."""

    def note_tick(self, at: datetime) -> None:
        """Note that a tick is made now; `at` is what the wall clock says."""
        self.last_tick_at, self.ticked_at = at, self._now()

    def others_wait(self, said: Waiting) -> None:
        """Note how long somebody waits for its turn in another scheduler [A14]."""

    async def run(self) -> None:
        """Tick until cancelled."""
        raise AssertionError("each cadence has its own")

    def _active(self, shard: int) -> list[str]:
        return [
            persona_id
            for persona_id in self._roster.in_shard(shard)
            if self._roster.personas[persona_id].status is PersonaStatus.ACTIVE
        ]

    def _loop(self) -> LoopState:
        assert self._roster.loop is not None
        return self._roster.loop

    def _interval(self) -> float:
        return self._loop().interval_ms / 1000
