"""Turns that several schedulers give: nobody has a second one before somebody elsewhere has a first [A14]."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulation.clock import run
from libs.bus.connection import Bus
from libs.contracts.work import Waiting
from services.scheduler.elsewhere import BELIEVED_S, SAID_EVERY_S, STUCK_S, Announcements, Elsewhere
from services.scheduler.ready import NEVER, NOBODY, Ready

INTERVAL_S = 1.0
STEP_S = 1 / 16
"""A power of two: sums of steps compare exactly."""


def said(waited_s: float | None, boot: str = "b", in_turn: int = 1, ahead: int = 0) -> Waiting:
    return Waiting(boot=boot, waited_s=waited_s, in_turn=in_turn, ahead=ahead)


@dataclass
class Scheduler:
    """A scheduler's queue of those who are due, and what it knows of the others."""

    boot: str
    ready: Ready = field(default_factory=Ready)
    since: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    elsewhere: Elsewhere = field(init=False)
    next_at: float = 0.0

    def __post_init__(self) -> None:
        self.elsewhere = Elsewhere(self.boot)

    def due(self, persona: str, now: float, *, urgent: bool = False) -> None:
        self.ready.add(persona, now, urgent, self.began.get(persona, NEVER))
        self.since.setdefault(persona, now)

    def take(self, room: int, now: float) -> list[str]:
        taken = self.ready.take(room, self.elsewhere.since(now, INTERVAL_S))
        for persona in taken:
            self.began[persona] = now
            del self.since[persona]
        return taken

    def word(self, now: float) -> Waiting | None:
        if now < self.next_at:
            return None
        self.next_at = now + SAID_EVERY_S
        waited = self.ready.longest_wait(now)
        in_turn, ahead = self.ready.take_counts()
        return said(waited if waited > INTERVAL_S else None, self.boot, in_turn, ahead)


class Swarm:
    """Schedulers that share so many thinkers; what is said arrives a step later."""

    def __init__(self, sizes: list[int], thinkers: int, thought_s: float, urgent: frozenset[str]) -> None:
        self.schedulers = [Scheduler(f"s{number}") for number in range(len(sizes))]
        self.thought_s = thought_s
        self.thinkers = thinkers
        self.urgent = urgent
        self.thinking: list[tuple[float, Scheduler, str]] = []
        self.on_the_way: deque[Waiting] = deque()
        self.begun: list[tuple[float, str]] = []
        self.ahead = 0
        for one, size in zip(self.schedulers, sizes, strict=True):
            for number in range(size):
                one.due(f"{one.boot}-{number}", 0.0, urgent=f"{one.boot}-{number}" in urgent)

    def run(self, seconds: float) -> None:
        for step in range(round(seconds / STEP_S)):
            self.step(step, step * STEP_S)

    def step(self, step: int, now: float) -> None:
        for over in [one for one in self.thinking if one[0] <= now]:
            self.thinking.remove(over)
            over[1].due(over[2], now, urgent=over[2] in self.urgent)
        for word in self.on_the_way:
            for one in self.schedulers:
                if one.elsewhere.heard(word, now):
                    one.ready.heard(word.in_turn, word.ahead)
        self.on_the_way.clear()
        turn = step % len(self.schedulers)
        for one in self.schedulers[turn:] + self.schedulers[:turn]:
            before = one.ready.ahead
            last = dict(one.began)
            for persona in one.take(self.thinkers - len(self.thinking), now):
                self.thinking.append((now + self.thought_s, one, persona))
                self.begun.append((now, persona))
                if persona not in self.urgent:
                    self.check(one, persona, last.get(persona, NEVER), now)
            self.ahead += one.ready.ahead - before
            if (told := one.word(now)) is not None:
                self.on_the_way.append(told)

    def check(self, one: Scheduler, persona: str, last: float, now: float) -> None:
        """Others know a step later since when somebody waits, so that is how exact it is."""
        for other in self.schedulers:
            waiting = other.since.values() if other is not one else ()
            long = [since for since in waiting if now - since > 2 * (INTERVAL_S + STEP_S)]
            assert not any(last > since + STEP_S for since in long), (
                f"{persona} had its second at {now} while {other.boot} has somebody who waits for its first"
            )


@pytest.mark.fact("A14")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=4),
    st.integers(1, 6),
    st.sampled_from([0.1, 0.5, 2.0]),
)
def test_however_unevenly_personas_are_shared_out_nobody_has_a_second_turn_first(
    sizes: list[int], thinkers: int, thought_s: float
) -> None:
    """All are due at once, and again as soon as they have thought."""
    swarm = Swarm(sizes, thinkers, thought_s, frozenset())
    swarm.run(30)
    turns = [len([1 for _, who in swarm.begun if who.startswith(f"s{n}-")]) for n in range(len(sizes))]
    if sum(sizes) > 4 * thinkers:
        assert len(swarm.begun) >= 0.8 * thinkers * 30 / (thought_s + STEP_S), "thinkers have work"
    if sum(sizes) * thought_s / thinkers < 10:
        assert all(turn >= size for turn, size in zip(turns, sizes, strict=True)), "everybody has turns"


@pytest.mark.fact("A14")
@pytest.mark.fact("A12")
def test_urgent_ones_go_ahead_of_those_elsewhere_one_in_four_at_most() -> None:
    """Three who always have something urgent, beside eighty who wait in another scheduler."""
    swarm = Swarm([80, 3], 4, 0.5, frozenset({"s1-0", "s1-1", "s1-2"}))
    swarm.run(40)
    urgent = sum(who.startswith("s1-") for _, who in swarm.begun)
    assert 0.1 < swarm.ahead / len(swarm.begun) <= 0.25
    assert urgent > 3 * len(swarm.begun) / 83, "more often than in their turn"


@pytest.mark.fact("A14")
def test_who_has_had_a_turn_since_somebody_elsewhere_waits_has_none_before_that_one() -> None:
    elsewhere, ready = Elsewhere("a"), Ready()
    elsewhere.heard(said(3.0), 100.0)
    since = elsewhere.since(100.0, INTERVAL_S)
    assert since == 97.0
    ready.add("first", 99.0, last=96.0)
    ready.add("second", 99.5, last=98.0)
    assert ready.take(5, since) == ["first"]
    assert ready.take(5) == ["second"], "once nobody waits elsewhere"


@pytest.mark.fact("A14")
def test_somebody_elsewhere_may_wait_two_intervals_before_it_matters() -> None:
    elsewhere = Elsewhere("a")
    elsewhere.heard(said(1.9), 100.0)
    assert elsewhere.since(100.1, INTERVAL_S) == NOBODY
    assert elsewhere.since(100.2, INTERVAL_S) == pytest.approx(98.1)


@pytest.mark.fact("A14")
def test_who_is_dead_or_stuck_holds_nobody_up() -> None:
    elsewhere = Elsewhere("a")
    elsewhere.heard(said(5.0), 100.0)
    assert elsewhere.since(100.0 + BELIEVED_S - 0.1, INTERVAL_S) == 95.0
    assert elsewhere.since(100.0 + BELIEVED_S, INTERVAL_S) == NOBODY, "nothing was heard of it"
    for second in range(round(STUCK_S)):
        elsewhere.heard(said(5.0 + second, in_turn=int(not second)), 200.0 + second)
        assert elsewhere.since(200.0 + second, INTERVAL_S) == 195.0
    elsewhere.heard(said(5.0 + STUCK_S, in_turn=0), 200.0 + STUCK_S)
    assert elsewhere.since(200.0 + STUCK_S, INTERVAL_S) == NOBODY, "it gives nobody a turn"
    elsewhere.heard(said(6.0 + STUCK_S), 201.0 + STUCK_S)
    assert elsewhere.since(201.0 + STUCK_S, INTERVAL_S) == 195.0, "it goes on"


@pytest.mark.fact("A14")
def test_whose_first_waits_no_more_holds_nobody_up_and_ones_own_word_does_not_count() -> None:
    elsewhere = Elsewhere("a")
    elsewhere.heard(said(5.0), 100.0)
    elsewhere.heard(said(4.0, "c"), 100.0)
    assert not elsewhere.heard(said(9.0, "a"), 100.0)
    assert elsewhere.since(100.0, INTERVAL_S) == 95.0
    elsewhere.heard(said(None), 100.1)
    assert elsewhere.since(100.1, INTERVAL_S) == 96.0


class Listener:
    """Hears what a scheduler says, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, Waiting]] = []

    async def note(self, subject: str, message: Waiting) -> None:
        assert subject == "perpetua.waiting"
        self.heard.append((asyncio.get_running_loop().time(), message))


@pytest.mark.fact("A14")
def test_it_is_said_a_few_times_a_second_while_somebody_waits_for_long_then_once_that_nobody_does() -> None:
    async def scenario() -> list[tuple[float, Waiting]]:
        listener, ready, now = Listener(), Ready(), asyncio.get_running_loop().time
        announcements = Announcements(cast("Bus", listener), "a")

        async def turns(seconds: float) -> None:
            for _ in range(round(seconds / STEP_S)):
                await announcements.say(ready, INTERVAL_S, others_wait=False)
                await asyncio.sleep(STEP_S)

        await turns(5)
        assert listener.heard == [], "nobody waits: nothing is said"
        ready.add("p", now())
        ready.add("q", now())
        await turns(3)
        ready.take(2)
        await turns(5)
        return listener.heard

    heard = run(scenario())
    assert 8 <= len(heard) <= 10
    said_at, words = [at for at, _ in heard], [word for _, word in heard]
    assert min(later - at for at, later in pairwise(said_at[:-1])) >= SAID_EVERY_S - 1e-6
    assert words[0].waited_s == pytest.approx(INTERVAL_S, abs=2 * STEP_S)
    assert words[-2].waited_s == pytest.approx(3.0, abs=SAID_EVERY_S + 2 * STEP_S)
    assert (words[-1].waited_s, words[-1].in_turn, words[-1].ahead) == (None, 2, 0)


@pytest.mark.fact("A14")
def test_who_goes_ahead_says_so_to_those_elsewhere_who_wait_though_nobody_here_does() -> None:
    async def scenario() -> list[tuple[float, Waiting]]:
        listener, ready = Listener(), Ready()
        announcements = Announcements(cast("Bus", listener), "a")
        ready.add("u", 50.0, urgent=True, last=40.0)
        assert ready.take(1, elsewhere=30.0) == ["u"]
        for _ in range(4):
            await announcements.say(ready, INTERVAL_S, others_wait=True)
        return listener.heard

    assert [(word.waited_s, word.ahead) for _, word in run(scenario())] == [(None, 1)]
