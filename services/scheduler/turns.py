"""From having reason to think to being allowed to: first a persona waits for its turn, then for its credits.

The queue of work is kept short, since nobody can be overtaken in it any more [A12]; so it is here that
personas wait, in `Ready`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from libs.bus.connection import Bus
from libs.contracts.tokens import shard_of
from libs.contracts.work import Waiting
from services.scheduler.admission import Admitting
from services.scheduler.dispatching import in_chunks
from services.scheduler.elsewhere import Announcements, Elsewhere
from services.scheduler.ledger import PersonaLedger
from services.scheduler.owner import ShardOwner
from services.scheduler.ready import NOBODY, Ready
from services.scheduler.taking import EVERYTHING, Takes
from services.scheduler.window import Window

LOW = 30
"""Items of an effective priority below this, in hundredths, wait under load."""

LOADED = 2.0

Decided = Callable[[int | None, list[str], list[str]], None]
"""Is told a run, whose turn it was, and who of those may think in it."""


class Turns:
    """Personas that have reason to think, until it is decided whether they may.

    `decided` is called once for each whose turn it was, unless it is looked after no more.
    """

    def __init__(
        self,
        bus: Bus,
        boot: str,
        owners: Mapping[int, ShardOwner],
        takes: Takes,
        admitting: Admitting,
        decided: Decided,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.load = 1.0
        """By how much everybody's waits are stretched [A13]."""

        self._owners = owners
        self._takes = takes
        self._admitting = admitting
        self._decided = decided
        self._tasks = tasks
        self._ready = Ready()
        self._elsewhere = Elsewhere(boot)
        self._announcements = Announcements(bus, boot)
        self._window = Window()
        self._asking: set[str] = set()
        """Personas whose credits are being asked for."""

        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._ready)

    def __contains__(self, persona_id: str) -> bool:
        """Whether a persona waits for its turn."""
        return persona_id in self._ready

    def asking(self, persona_id: str) -> bool:
        """Whether a persona's credits are being asked for."""
        return persona_id in self._asking

    @property
    def idle(self) -> bool:
        """Whether nobody waits here, neither for its turn nor for its credits."""
        return not self._ready and not self._asking

    def add(self, persona_id: str, urgent: bool, last: float) -> None:
        """Have a persona wait for its turn from now on, or keep its place; once urgent it stays so.

        `last` is when its last thought began, by the loop's clock.
        """
        self._ready.add(persona_id, self._now(), urgent, last)

    def remove(self, persona_id: str) -> None:
        """Have a persona wait for its turn no more."""
        self._ready.remove(persona_id)

    def clear(self) -> None:
        """Have nobody wait for a turn."""
        self._ready.clear()

    def granted(self, waited: float) -> None:
        """Keep the queue as short as the wait of a chunk in it calls for."""
        self._window.waited(waited, self._under_way(), self._now())

    def heard(self, said: Waiting) -> bool:
        """Note how long somebody waits in another scheduler; whether that matters to anybody here."""
        if not self._elsewhere.heard(said, self._now()):
            return False
        self._ready.heard(said.in_turn, said.ahead)
        return bool(self._ready)

    async def announce(self, interval_s: float) -> None:
        """Tell other schedulers where somebody here waits for long."""
        others_wait = self._elsewhere.since(self._now(), interval_s) < NOBODY
        await self._announcements.say(self._ready, interval_s, others_wait)

    def take(self, run: int | None, interval_s: float) -> None:
        """Ask for the credits of as many as may think at once."""
        under_way = self._under_way()
        self.load = self._window.load(self._ready.longest_wait(self._now()), interval_s, under_way)
        self._takes.least = LOW if self.load >= LOADED else EVERYTHING
        if not self._ready or (room := self._window.size - under_way) <= 0:
            return
        taken = self._ready.take(room, self._elsewhere.since(self._now(), interval_s))
        self._asking.update(taken)
        for some in in_chunks(taken):
            self._tasks.create_task(self._admit(run, list(some)), name="admit")

    async def _admit(self, run: int | None, persona_ids: list[str]) -> None:
        try:
            admitted = await self._admitting.admit(self._entries(persona_ids))
        finally:
            self._asking.difference_update(persona_ids)
        self._decided(run, persona_ids, admitted)

    def _entries(self, persona_ids: list[str]) -> dict[str, PersonaLedger]:
        found = ((name, self._owners.get(shard_of(name))) for name in persona_ids)
        return {name: owner.ledger.persona(name) for name, owner in found if owner is not None}

    def _under_way(self) -> int:
        return len(self._asking) + sum(len(owner.dispatches) for owner in self._owners.values())
