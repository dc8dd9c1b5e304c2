"""Those who wait for their turn in other schedulers: nobody here gets a second one before them [A14].

A scheduler in which somebody has waited for longer than an interval says so a few times a second. What others
say is believed while it is fresh and their turns go on: who is dead or stuck holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import msgspec
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.endpoints import was_sent_to
from libs.bus.errors import UNREADABLE
from libs.contracts import subjects
from libs.contracts.work import Waiting
from services.scheduler.ready import NOBODY, Ready

INTERVALS = 2
"""So many intervals somebody may wait elsewhere before it matters here."""

SAID_EVERY_S = 0.25
BELIEVED_S = 2.0
STUCK_S = 30.0
"""Who has said for so many seconds that its first still waits, and gave nobody a turn, holds nobody up."""

_decode = msgspec.json.Decoder(Waiting).decode


class Elsewhere:
    """What other schedulers last said. Pure: times are seconds of a monotonic clock."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._heard: dict[str, _Heard] = {}

    def heard(self, said: Waiting, now: float) -> bool:
        """Note what a scheduler says; whether it is another one."""
        if said.boot == self._boot:
            return False
        last = self._heard.pop(said.boot, None)
        if said.waited_s is not None:
            turned = last is None or said.in_turn or said.ahead
            turned_at = now if last is None or turned else last.turned_at
            self._heard[said.boot] = _Heard(now, now - said.waited_s, turned_at)
        return True

    def since(self, now: float, interval_s: float) -> float:
        """Return since when somebody elsewhere has waited too long; infinite where nobody has."""
        self._heard = {boot: one for boot, one in self._heard.items() if now - one.at < BELIEVED_S}
        begun = [one.since for one in self._heard.values() if now - one.turned_at < STUCK_S]
        return min((at for at in begun if now - at > INTERVALS * interval_s), default=NOBODY)


class _Heard(NamedTuple):
    at: float
    since: float
    turned_at: float


@asynccontextmanager
async def hearing(bus: Bus, told: Callable[[Waiting], None]) -> AsyncIterator[None]:
    """Have `told` called with what schedulers say, this one too, while the context is open."""

    async def receive(message: Msg) -> None:
        with suppress(*UNREADABLE):  # a stranger's
            if was_sent_to(subjects.WAITING, message.subject):
                told(_decode(message.data))

    async with bus.subscribed(subjects.WAITING, receive):
        yield


class Announcements:
    """Says how long the first here has waited, a few times a second at most."""

    def __init__(self, bus: Bus, boot: str) -> None:
        self._bus = bus
        self._boot = boot
        self._said = False
        self._next_at = float("-inf")
        self._now = asyncio.get_running_loop().time

    async def say(self, ready: Ready, interval_s: float, others_wait: bool) -> None:
        """Say it where it is longer than an interval, and once that it is no more.

        Where others wait they are told, too, what has gone ahead of its turn here.
        """
        now = self._now()
        waited = ready.longest_wait(now)
        long = waited > interval_s
        if not (long or self._said or (others_wait and ready.ahead)):
            return
        if now < self._next_at and (long or not self._said):
            return
        self._said, self._next_at = long, now + SAID_EVERY_S
        in_turn, ahead = ready.take_counts()
        waited_s = waited if long else None
        said = Waiting(boot=self._boot, waited_s=waited_s, in_turn=in_turn, ahead=ahead)
        await self._bus.note(subjects.WAITING, said)
