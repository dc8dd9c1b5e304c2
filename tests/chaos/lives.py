"""Messages and credits while the storm blows: each message ends once, each token counts once [A2, A16]."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from typing import Any

from tests.chaos.clients import Clients

SETTINGS = {
    "CODETETHER_COGNITION_CADENCE": "adaptive",
    "CODETETHER_COGNITION_THINKER_ENABLED": "true",
    "CODETETHER_COGNITION_TOKEN_CREDITS_PER_MINUTE": "4000000000",
    "CODETETHER_COGNITION_CPU_CREDITS_PER_MINUTE": "4000000000",
}
POOR_CREDITS = 3000
"""Tokens a minute of those who may not think as they like."""

POOR_TREE = {f"p{number}": [f"heir-{number}-{n}" for n in (1, 2)] for number in range(0, 200, 10)}
"""Children that are spent for by their poor parent; their own credits are those of everybody."""

_POOR_ONE_IN = 10
_PAUSE_S = (0.02, 0.2)
_AGAIN_S = 0.3
_TRIES = 200


def policy_of(name: str) -> dict[str, int]:
    """Return the policy that a persona is created with: each tenth is poor."""
    return {"token_credits_per_minute": POOR_CREDITS} if is_poor(name) else {}


def is_poor(name: str) -> bool:
    """Whether a persona was created with few credits."""
    return name[:1] in "pc" and name[1:].isdigit() and int(name[1:]) % _POOR_ONE_IN == 0


class Senders:
    """Sends messages, each under an id of its own, again and again until it is acknowledged or refused."""

    def __init__(self, clients: Clients, rng: random.Random) -> None:
        self.accepted: dict[str, str] = {}
        """Persona of each item that was acknowledged."""

        self._clients = clients
        self._rng = rng
        self._number = 0

    async def run(self) -> None:
        """Send until the clients end."""
        while not self._clients.ending:
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
            if living := self._clients.book.living:
                await self.send(self._rng.choice(living), self._rng.choice((0.3, 0.5, 0.9)))

    async def send(self, persona: str, priority: float) -> None:
        """Send one message."""
        self._number += 1
        item = f"item-{self._number}"
        body = {"id": item, "once": True, "content": "Something happened.", "priority": priority}
        for _ in range(_TRIES):
            status, _answer = await self._clients.ask("POST", f"/v1/swarm/personas/{persona}/inbox", body)
            if status == 200:
                self.accepted[item] = persona
                return
            if 0 < status < 500 and status != 429:
                return
            await asyncio.sleep(_AGAIN_S)

    async def wake_all(self) -> None:
        """Send to everybody, side by side."""
        limit = asyncio.Semaphore(8)

        async def one(name: str) -> None:
            async with limit:
                await self.send(name, 0.5)

        await asyncio.gather(*(one(name) for name in self._clients.book.living))


class Ends:
    """What the stream says of messages and of tokens."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.handled: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.tokens: defaultdict[str, int] = defaultdict(int)
        self.pauses = 0
        self.paused: set[str] = set()
        """Who waits for credits."""

        self.began = time.time()
        self._said_twice: list[str] = []

    def note(self, event_type: str, persona: str, payload: dict[str, Any]) -> None:
        """Note an event."""
        if event_type == "inbox_received":
            self.received[payload["id"]] += 1
        elif event_type == "inbox_dropped":
            self.dropped[payload["id"]] += 1
        elif event_type == "inbox_handled":
            for item in payload["items"]:
                (self.handled if item["outcome"] == "handled" else self.failed)[item["id"]] += 1
        elif event_type == "budget_paused":
            self._paused(persona)
        elif event_type == "budget_resumed":
            self._resumed(persona)
        elif "thinking" in payload and (usage := payload.get("usage")) is not None:
            self.tokens[persona] += usage["total_tokens"]

    def open(self, accepted: dict[str, str]) -> list[str]:
        """Return the acknowledged messages that have not ended yet."""
        return [item for item in accepted if not self.handled[item] and not self.dropped[item]]

    def findings(self, accepted: dict[str, str], spent: dict[str, int]) -> list[str]:
        """Compare with what was acknowledged, and with what the spend report says."""
        found = [f"{item} of {accepted[item]} was acknowledged and is lost" for item in self.open(accepted)]
        found += [f"{item} was handled {n} times" for item, n in self.handled.items() if n > 1]
        found += [f"{item} was dropped {n} times" for item, n in self.dropped.items() if n > 1]
        found += [f"{item} was handled and dropped" for item in self.handled if self.dropped[item]]
        found += [f"{item} was received {n} times" for item, n in self.received.items() if n > 1]
        for persona in sorted(self.tokens.keys() | spent.keys()):
            seen, counted = self.tokens[persona], spent.get(persona, 0)
            if seen != counted:
                found.append(f"{persona} has spent {seen} tokens by the stream, {counted} by the report")
        return found

    def credit_findings(self, parents: dict[str, str], reaped: set[str]) -> list[str]:
        """Compare what poor trees have spent with what their roots had; who was paused must think again."""
        most = POOR_CREDITS * self._minutes()
        found = [
            f"the tree of {root} has spent {spent} tokens of {most} in {self._minutes()} minutes"
            for root, spent in self._spent_by_tree(parents).items()
            if spent > most
        ]
        found += [f"{persona} was paused and is not resumed" for persona in sorted(self.paused - reaped)]
        return found + self._said_twice

    def fullest_tree(self, parents: dict[str, str]) -> float:
        """Return which part of its credits the poor tree has spent that has spent most, beside its root."""
        spent = {root: n for root, n in self._spent_by_tree(parents).items() if root in parents.values()}
        return max(spent.values(), default=0) / (POOR_CREDITS * self._minutes())

    def _minutes(self) -> int:
        return int(time.time() // 60 - self.began // 60) + 1

    def _spent_by_tree(self, parents: dict[str, str]) -> Counter[str]:
        """Return the tokens of each poor persona and of all below it."""
        spent: Counter[str] = Counter()
        for persona, tokens in self.tokens.items():
            above: str | None = persona
            while above is not None:
                if is_poor(above):
                    spent[above] += tokens
                above = parents.get(above)
        return spent

    def _paused(self, persona: str) -> None:
        self.pauses += 1
        if persona in self.paused:
            self._said_twice.append(f"{persona} was paused twice")
        self.paused.add(persona)

    def _resumed(self, persona: str) -> None:
        if persona not in self.paused:
            self._said_twice.append(f"{persona} was resumed and had not been paused")
        self.paused.discard(persona)
