"""Clients of the API while the storm blows: they keep book of what was acknowledged, and of what may be."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

import aiohttp

_PATIENCE = aiohttp.ClientTimeout(total=25)
_PAUSE_S = (0.05, 0.6)
_QUIET_S = 1.0
_LOOK_S = 0.5
_READ_WITHIN_S = 60.0


@dataclass
class Book:
    """Personas by what the API has answered."""

    created: set[str] = field(default_factory=set)
    maybe_created: set[str] = field(default_factory=set)
    parents: dict[str, str] = field(default_factory=dict)
    """Of those that were to be spawned, acknowledged or not."""

    reaped: set[str] = field(default_factory=set)
    maybe_reaped: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def living(self) -> list[str]:
        """Personas that nobody has tried to reap, alone or along with one that they descend from."""
        tried = self.reaped | self.maybe_reaped
        return sorted(name for name in self.created if tried.isdisjoint(self._line(name)))

    def _line(self, name: str) -> Iterator[str]:
        """Yield a persona and all whom it descends from."""
        above: str | None = name
        while above is not None:
            yield above
            above = self.parents.get(above)


class Clients:
    """Creates, spawns, reaps, stops and starts, one request after another."""

    def __init__(
        self,
        url: str,
        rng: random.Random,
        newest: Callable[[], tuple[int, int]],
        own: Callable[[str], dict[str, Any]] = lambda name: {},
    ) -> None:
        """`own` is what a persona of a name is created with beside what all are."""
        self.book = Book()
        self.stopped = False
        self.ending = False
        self._url = url
        self._rng = rng
        self._newest = newest
        self._own = own
        self.loop = asyncio.Lock()
        """Who has it may start the loop, or stop it."""

        self._number = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Clients:
        self._session = aiohttp.ClientSession(timeout=_PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def run(self) -> None:
        """Make requests until told to end; the loop runs then."""
        while not self.ending:
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
            draw = self._rng.random()
            if draw < 0.45:
                await self.create()
            elif draw < 0.7:
                await self.create(parent=self._some())
            elif draw < 0.97:
                await self.reap(self._some())
            else:
                await self.stop_and_start()

    def _some(self) -> str | None:
        own = [name for name in self.book.living if name.startswith("c")]
        return self._rng.choice(own) if own else None

    async def populate(self, count: int) -> None:
        """Create personas side by side; every one of them must be acknowledged."""
        limit = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with limit:
                await self._create(f"p{number}", None)

        await asyncio.gather(*(one(number) for number in range(count)))

    async def populate_trees(self, roots: dict[str, list[str]]) -> None:
        """Spawn children of personas that there are."""
        for root, children in roots.items():
            if root in self.book.created:
                for child in children:
                    await self._create(child, root)

    async def create(self, parent: str | None = None) -> None:
        await self._create(self.next_name(), parent)

    def next_name(self) -> str:
        """Return a name that nobody had."""
        self._number += 1
        return f"c{self._number}"

    def described(self, name: str) -> dict[str, Any]:
        """Return a persona as it is asked for."""
        body = {"persona_id": name, "name": name, "role": "r", "charter": "c", "swarm_id": "storm"}
        return body | self._own(name)

    async def _create(self, name: str, parent: str | None) -> None:
        body = self.described(name)
        path = "/v1/swarm/personas"
        if parent is not None:
            self.book.parents[name] = parent
            path = f"/v1/swarm/personas/{parent}/spawn"
        status, _ = await self.ask("POST", path, body)
        if status == 200:
            self.book.created.add(name)
        elif status == 0 or status >= 500:
            self.book.maybe_created.add(name)

    async def reap(self, name: str | None) -> None:
        if name is None:
            return
        self.book.maybe_reaped.add(name)
        status, answer = await self.ask("POST", f"/v1/swarm/personas/{name}/reap", {"cascade": True})
        if status == 200:
            self.book.reaped |= set(answer["reaped_ids"])

    async def stop_and_start(self) -> None:
        """Stop; once that is acknowledged nothing may follow; then start again."""
        async with self.loop:
            self.stopped = True
            status, _ = await self.ask("POST", "/v1/cognition/stop", {})
            if status == 200:
                await self._must_be_quiet()
            await self.start({})
            self.stopped = False

    async def start(self, body: dict[str, Any], unanswered: Callable[[], None] = lambda: None) -> None:
        """Start the loop, again and again until that is acknowledged; tell of each request that was not."""
        status = 0
        while status != 200:
            status, _ = await self.ask("POST", "/v1/cognition/start", body)
            if status != 200:
                unanswered()
            await asyncio.sleep(0.2)

    async def _must_be_quiet(self) -> None:
        """Once the collector has read what was public at the end of a stop no thought may follow."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_WITHIN_S):
                await self._read_to(await self._last_public())
        sequence, thoughts = self._newest()
        await asyncio.sleep(2 * _QUIET_S)
        if self._newest()[1] != thoughts:
            self.book.findings.append(
                f"thoughts follow a stop: {thoughts} at {sequence}, then {self._newest()}"
            )

    async def _last_public(self) -> int:
        while True:
            status, page = await self.ask("GET", "/v1/cognition/events?limit=1")
            if status == 200:
                return int(page["last_sequence"])
            await asyncio.sleep(_PAUSE_S[0])

    async def _read_to(self, sequence: int) -> None:
        while self._newest()[0] < sequence:  # noqa: ASYNC110 - the collector signals no event
            await asyncio.sleep(_PAUSE_S[0])

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and answer; 0 where no answer came."""
        assert self._session is not None
        try:
            async with self._session.request(method, self._url + path, json=body) as response:
                answer = await response.json(content_type=None)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            status, answer = 0, None
        key = f"{path.rpartition('/')[2] if method == 'POST' else method.lower()} {status}"
        self.book.answers[key] = self.book.answers.get(key, 0) + 1
        return status, answer


class Truth:
    """Asks for the status again and again, and compares it with what the collector sees and its own clock.

    While this process stood still the machine mostly did: that is nobody's delay.
    """

    WITHIN_S = 5.0
    _AHEAD_S = 1.0

    def __init__(self, clients: Clients, newest_at: Callable[[], float]) -> None:
        self.findings: list[str] = []
        self.answers = 0
        self.oldest = 0.0
        """Seconds since the last tick, at most, of a loop that was said to run."""

        self._clients = clients
        self._newest_at = newest_at
        self._denied_since: float | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_LOOK_S)
            stood = time.monotonic() - began - _LOOK_S
            if self._denied_since is not None:
                self._denied_since += stood
            asked = datetime.now(UTC)
            status, answer = await self._clients.ask("GET", "/v1/cognition/status")
            if status == 200:
                self.answers += 1
                self._judge_running(answer, time.monotonic())
                self._judge_tick(answer, asked, stood)
            else:
                self._denied_since = None

    def _judge_running(self, answer: dict[str, Any], now: float) -> None:
        """What is seen to move must not be denied for longer than it takes to learn of it."""
        moving = now - self._newest_at() < 1.0
        denies = moving and not answer["running"] and not self._clients.stopped
        self._denied_since = (self._denied_since or now) if denies else None
        if self._denied_since is not None and now - self._denied_since > self.WITHIN_S:
            self.findings.append(f"status denies for {now - self._denied_since:.1f} s that the loop runs")
            self._denied_since = None

    def _judge_tick(self, answer: dict[str, Any], asked: datetime, stood: float) -> None:
        """The last tick of a loop that is said to run is no older than it takes to learn that it does not.

        Nor is it to come yet, of a loop that runs or does not. Whose clock is wrong, it is not this one.
        """
        said = answer["last_tick_at"]
        tick = datetime.fromisoformat(said) if said is not None else None
        if tick is not None and (tick - datetime.now(UTC)).total_seconds() > self._AHEAD_S:
            self.findings.append(f"status has a last tick that is to come: {said} at {datetime.now(UTC)}")
        if not answer["running"]:
            return
        age = (asked - tick).total_seconds() - stood if tick is not None else inf
        self.oldest = max(self.oldest, age)
        if age > self.WITHIN_S:
            self.findings.append(f"status says at {asked} that the loop runs, and its last tick is {said}")
