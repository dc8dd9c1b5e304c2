"""Lives while the storm blows: each message ends once, each token counts once [A2, A16]."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from libs.contracts.rollups import ROLL_UP, spender
from tests.chaos.clients import Clients
from tests.chaos.collector import Event

SETTINGS = {
    "CODETETHER_COGNITION_CADENCE": "adaptive",
    "CODETETHER_COGNITION_THINKER_ENABLED": "true",
    "CODETETHER_COGNITION_TOKEN_CREDITS_PER_MINUTE": "4000000000",
    "CODETETHER_COGNITION_CPU_CREDITS_PER_MINUTE": "4000000000",
    "PERPETUA_ROLL_UP_INTERVAL_MS": "500",
}
POOR_CREDITS = 8000
"""Tokens a minute of those who may not think as they like."""

POOR_TREE = {f"p{number}": [f"heir-{number}-{n}" for n in (1, 2)] for number in range(0, 200, 10)}
"""Children that are spent for by their poor parent; their own credits are those of everybody."""

COUNCIL = "council"
"""The swarm of each tenth persona: they share their memory."""

_ONE_IN = 10
_PAUSE_S = (0.02, 0.2)
_POST_PAUSE_S = (0.2, 1.5)
_AGAIN_S = 0.3
_TRIES = 200


def family(root: str) -> str:
    """Return the swarm of a poor tree: they share their memory, and their root pays for its roll-ups."""
    return f"family of {root}"


def life_of(name: str) -> dict[str, Any]:
    """Return what a persona is created with: each tenth is poor, each tenth is of the council."""
    poor = {"token_credits_per_minute": POOR_CREDITS} if is_poor(name) else {}
    swarm_id = _FAMILIES.get(name) or (COUNCIL if _number(name) % _ONE_IN == 1 else None)
    if swarm_id is None:
        return {"policy": poor | {"share_memory": False}}  # said, as a child has its parent's otherwise
    return {"swarm_id": swarm_id, "policy": poor | {"share_memory": True}}


def is_poor(name: str) -> bool:
    """Whether a persona was created with few credits."""
    return _number(name) % _ONE_IN == 0


def _number(name: str) -> int:
    return int(name[1:]) if name[:1] in "pc" and name[1:].isdigit() else -1


_ROOTS = {spender(family(root)): root for root in POOR_TREE}
_FAMILIES = {name: family(root) for root, heirs in POOR_TREE.items() for name in (root, *heirs)}


@dataclass(frozen=True)
class Posted:
    """A post that was acknowledged."""

    swarm_id: str
    most: int
    """So many may answer it."""

    personas: int
    """So many have it."""


class Senders:
    """Sends messages and posts, each under an id of its own, until it is acknowledged or refused."""

    def __init__(self, clients: Clients, rng: random.Random) -> None:
        self.accepted: dict[str, str] = {}
        """Persona of each item that was acknowledged."""

        self.posted: dict[str, Posted] = {}
        """Posts that were acknowledged."""

        self._clients = clients
        self._rng = rng
        self._number = 0

    async def run(self) -> None:
        """Send messages until the clients end."""
        while not self._clients.ending:
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
            if living := self._clients.book.living:
                await self.send(self._rng.choice(living), self._rng.choice((0.3, 0.5, 0.9)))

    async def run_posts(self) -> None:
        """Send posts, mostly to the council, until the clients end."""
        while not self._clients.ending:
            await asyncio.sleep(self._rng.uniform(*_POST_PAUSE_S))
            swarm_id = self._rng.choice([COUNCIL, COUNCIL, family(self._rng.choice(list(POOR_TREE)))])
            await self.post(swarm_id, self._rng.randint(1, 3))

    async def send(self, persona: str, priority: float) -> None:
        """Send one message."""
        self._number += 1
        item = f"item-{self._number}"
        body = {"id": item, "once": True, "content": "Something happened.", "priority": priority}
        if await self._sent(f"/v1/swarm/personas/{persona}/inbox", body) is not None:
            self.accepted[item] = persona

    async def post(self, swarm_id: str, most: int) -> str:
        """Send one post to a swarm, and return its id."""
        self._number += 1
        post = f"post-{self._number}"
        body = {"id": post, "once": True, "content": "Who knows of it?", "answers_most": most}
        answer = await self._sent(f"/v1/swarm/swarms/{quote(swarm_id)}/inbox", body)
        if answer is not None:
            self.posted[post] = Posted(swarm_id, most, answer["personas"])
        return post

    async def _sent(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the acknowledgement says; None where it is refused."""
        for _ in range(_TRIES):
            status, answer = await self._clients.ask("POST", path, body)
            if status == 200:
                return dict(answer)
            if 0 < status < 500 and status != 429:
                return None
            await asyncio.sleep(_AGAIN_S)
        return None

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
        self._paused_at: dict[str, float] = {}
        """Who waits for credits, and since when, by the monotonic clock."""

        self.began = time.time()
        self._copies: dict[str, str] = {}
        """Persona of each copy of a post."""

        self._said_twice: list[str] = []

    def note(self, event: Event) -> None:
        """Note an event."""
        event_type, persona, payload = event.event_type, event.persona, event.payload
        if event_type == "inbox_received":
            self.received[payload["id"]] += 1
            if payload["post_id"] is not None:
                self._copies[payload["id"]] = persona
        elif event_type == "inbox_dropped":
            self.dropped[payload["id"]] += payload["reason"] != "unknown_persona"  # known when it was sent
        elif event_type == "inbox_handled":
            for item in payload["items"]:
                (self.handled if item["outcome"] == "handled" else self.failed)[item["id"]] += 1
        elif event_type == "budget_paused":
            self._paused(persona, payload)
        elif event_type == "budget_resumed":
            self._resumed(persona)
        else:
            self._spent(event)

    def _spent(self, event: Event) -> None:
        if event.tokens:
            who = spender(event.swarm_id or "") if event.is_roll_up else event.persona
            self.tokens[who] += event.tokens

    def open(self, accepted: dict[str, str]) -> dict[str, str]:
        """Return the acknowledged messages, and the copies of posts, that have not ended, by persona."""
        return {
            item: persona
            for item, persona in (accepted | self._copies).items()
            if not self.handled[item] and not self.dropped[item]
        }

    def findings(self, accepted: dict[str, str]) -> list[str]:
        """Compare with what was acknowledged."""
        found = [f"{item} of {who} was accepted and is lost" for item, who in self.open(accepted).items()]
        found += [f"{item} was handled {n} times" for item, n in self.handled.items() if n > 1]
        found += [f"{item} was dropped {n} times" for item, n in self.dropped.items() if n > 1]
        found += [f"{item} was handled and dropped" for item in self.handled if self.dropped[item]]
        found += [f"{item} was received {n} times" for item, n in self.received.items() if n > 1]
        return found

    def spend_findings(self, by_persona: dict[str, int], by_role: dict[str, int]) -> list[str]:
        """Compare with what the spend reports say of personas, and of roll-ups."""
        rolled_up = sum(tokens for who, tokens in self.tokens.items() if who.startswith(ROLL_UP))
        seen = self.tokens | {ROLL_UP: rolled_up, "all": sum(self.tokens.values())}
        told = by_persona | {ROLL_UP: by_role.get(ROLL_UP, 0), "all": sum(by_role.values())}
        return [
            f"{who}: {seen.get(who, 0)} tokens are spent by the stream, {told.get(who, 0)} by the report"
            for who in sorted(seen.keys() | told.keys())
            if seen.get(who, 0) != told.get(who, 0)
        ]

    def paused(self, since: float, reaped: set[str]) -> list[str]:
        """Return who waits for credits since before a monotonic time, and is not reaped."""
        return sorted(name for name, at in self._paused_at.items() if at < since and name not in reaped)

    def credit_findings(self, parents: dict[str, str], paused: list[str]) -> list[str]:
        """Compare what poor trees have spent with what their roots had; `paused` should think again."""
        most = POOR_CREDITS * self._minutes()
        found = [
            f"the tree of {root} has spent {spent} tokens of {most} in {self._minutes()} minutes"
            for root, spent in self._spent_by_tree(parents).items()
            if spent > most
        ]
        found += [f"{persona} was paused and is not resumed" for persona in paused]
        return found + self._said_twice

    def fullest_tree(self, parents: dict[str, str]) -> float:
        """Return which part of its credits the poor tree has spent that has spent most, beside its root."""
        spent = {root: n for root, n in self._spent_by_tree(parents).items() if root in parents.values()}
        return max(spent.values(), default=0) / (POOR_CREDITS * self._minutes())

    def _minutes(self) -> int:
        return int(time.time() // 60 - self.began // 60) + 1

    def _spent_by_tree(self, parents: dict[str, str]) -> Counter[str]:
        """Return the tokens of each poor persona and of all below it; a family's roll-ups are its root's."""
        spent: Counter[str] = Counter()
        for who, tokens in self.tokens.items():
            above: str | None = _ROOTS.get(who, who)
            while above is not None:
                if is_poor(above):
                    spent[above] += tokens
                above = parents.get(above)
        return spent

    def _paused(self, persona: str, payload: dict[str, Any]) -> None:
        self.pauses += 1
        if persona in self._paused_at:
            self._said_twice.append(f"{persona} was paused twice, until {payload['resumes_at']}")
        self._paused_at[persona] = time.monotonic()

    def _resumed(self, persona: str) -> None:
        if persona not in self._paused_at:
            self._said_twice.append(f"{persona} was resumed and had not been paused")
        self._paused_at.pop(persona, None)
