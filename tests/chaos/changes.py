"""What clients change while the storm blows, beside who lives: what was acknowledged last must hold."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.clients import Clients

_PAUSE_S = (0.2, 1.0)
_AGAIN_S = 0.3
_IMPORTED = 5
_WAIT_FOR = 2


@dataclass
class Value:
    """What something may be: as acknowledged last, or as asked for without an answer, which may come late."""

    last: Any
    unanswered: list[Any] = field(default_factory=list)

    def asked(self, value: object, status: int) -> None:
        """Note how a request for a value ended; 0 is no answer."""
        if status == 200:
            self.last = value
        elif status == 0 or status >= 500:
            self.unanswered.append(value)

    @property
    def may_be(self) -> list[Any]:
        """Return what it may be."""
        return [self.last, *self.unanswered]


class Changes:
    """Imports personas, has some wait for others, and changes the interval, one request after another."""

    def __init__(self, clients: Clients, rng: random.Random, personas: int, interval_ms: int) -> None:
        self.findings: list[str] = []
        self.imported = 0
        self._clients = clients
        self._rng = rng
        self._personas = personas
        self._interval_ms = interval_ms
        self._interval = Value(interval_ms)
        self._waiting_for: dict[str, Value] = {}

    async def run(self) -> None:
        """Make requests until the clients end."""
        while not self._clients.ending:
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
            draw = self._rng.random()
            if draw < 0.3:
                await self._import()
            elif draw < 0.8:
                await self._wait()
            else:
                await self._change_interval()

    async def _import(self) -> None:
        """Import personas, and once more the same ones: all are there then, and none twice."""
        names = [self._clients.next_name() for _ in range(_IMPORTED)]
        book = self._clients.book
        book.maybe_created.update(names)
        for existing in (0, len(names)):
            answer = await self._until_imported(names)
            if answer is None:
                return
            counts = answer["created"], answer["existing"], answer["refused"]
            if sum(counts[:2]) != len(names) or counts[1] < existing:
                self.findings.append(f"an import of {names} had {counts}, {existing} were there")
        book.created.update(names)
        self.imported += len(names)

    async def _until_imported(self, names: list[str]) -> dict[str, Any] | None:
        rows = {"personas": [self._clients.described(name) for name in names]}
        while True:
            status, answer = await self._clients.ask("POST", "/v1/swarm/import", rows)
            if status == 200:
                return dict(answer)
            if 0 < status < 500 and status != 429:
                self.findings.append(f"an import of {names} was refused: {status} {answer}")
                return None
            await asyncio.sleep(_AGAIN_S)

    async def _wait(self) -> None:
        """Have a persona that stays wait for others before it, so that there is no cycle; or for nobody."""
        number = self._rng.randrange(1, self._personas)
        many = self._rng.choice((0, 1, _WAIT_FOR))
        wanted = sorted({f"p{self._rng.randrange(number)}" for _ in range(many)})
        path = f"/v1/swarm/personas/p{number}/dependencies"
        status, answer = await self._clients.ask("PUT", path, {"waiting_for": wanted})
        value = self._waiting_for.setdefault(f"p{number}", Value([]))
        value.asked(wanted, status)
        if status == 200 and answer["waiting_for"] != wanted:
            self.findings.append(f"p{number} is to wait for {wanted}, the answer is {answer}")

    async def _change_interval(self) -> None:
        wanted = self._interval_ms + self._rng.choice((0, 20, 50))
        async with self._clients.loop:
            await self._clients.start({"loop_interval_ms": wanted}, lambda: self._interval.asked(wanted, 0))
            self._interval.asked(wanted, 200)

    async def compare(self, personas: dict[str, Any]) -> list[str]:
        """Return what is not as it was asked for: the interval, or for whom somebody waits."""
        status, answer = await self._clients.ask("GET", "/v1/cognition/status")
        found = {"the loop": answer["loop_interval_ms"] if status == 200 else None}
        found |= {name: personas[name]["waiting_for"] for name in self._waiting_for if name in personas}
        return others({"the loop": self._interval} | self._waiting_for, found)


def others(wanted: dict[str, Value], found: dict[str, Any]) -> list[str]:
    """Say who has what is not asked for."""
    return [
        f"{name} has {found.get(name)}, asked for was {value.may_be}"
        for name, value in wanted.items()
        if found.get(name) not in value.may_be
    ]
