"""Idle clocks: what they count, what stops them, and what a takeover keeps of them [A17]."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs

from libs.bus.connection import Bus
from libs.contracts.accounts import Credit
from libs.contracts.journal import CheckpointHead, CheckpointPage, Effort, Pause, ShardRecord
from libs.contracts.personas import PolicyRequest, ReapPersonaResponse
from libs.contracts.registry import ReapCommand
from services.scheduler.idling import IdleClocks
from services.scheduler.ledger import Ledger
from services.scheduler.pages import Pages
from services.scheduler.running import MOST_S, RunningTime
from tests.unit.make import NOW, Tree, thought

TTL = 100


class Clock:
    """A scheduler that looks at everybody again and again, while time passes as a test says."""

    def __init__(self, ttl: int = TTL) -> None:
        self.now = 1000.0
        self.runs = True
        self.running = RunningTime(lambda: self.runs, lambda: self.now)
        self.ledger = Ledger(0, lambda: self.now, self.running.seconds)
        self._number = 0
        self.asked: list[ReapCommand] = []
        self.answer = asyncio.Event()
        self.tree = Tree()
        self.tree.create("p", policy=PolicyRequest(idle_ttl_secs=ttl))
        self.tasks: asyncio.TaskGroup
        self.clocks: IdleClocks

    async def __aenter__(self) -> Clock:
        self.tasks = await asyncio.TaskGroup().__aenter__()
        self.clocks = IdleClocks(cast("Bus", self), self.tree.roster, self.tasks)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self.answer.set()
        await self.tasks.__aexit__(*raised)

    async def ask(self, _: str, command: ReapCommand, *__: object, **___: object) -> ReapPersonaResponse:
        """Stand where the registry is asked."""
        self.asked.append(command)
        await self.answer.wait()
        return ReapPersonaResponse(reaped_ids=["p"], count=1)

    @property
    def idle_s(self) -> float:
        return self.ledger.life("p").idle_s

    def thinks(self, **more: Any) -> None:
        effort = structs.replace(Effort("critic", 1, 1, True, False, novelty=0.9), **more)
        self._say(thoughts=[structs.replace(self._next(), effort=effort)])

    def falls_back(self) -> None:
        self._say(thoughts=[structs.replace(self._next(), effort=None)])

    def _next(self) -> Any:
        return thought("p", self.ledger.persona("p").count + 1)

    def pauses(self) -> None:
        self._say(pauses=[Pause("p", "p", Credit.TOKENS, NOW, None)])

    def resumes(self) -> None:
        self._say(resumed=["p"])

    def _say(self, **record: Any) -> None:
        self._number += 1
        self.ledger.apply(self._number, ShardRecord(number=self._number, **record))

    async def passes(self, seconds: float, *, well: bool = True) -> None:
        """Let time pass; while all is well, that is said and looked at each second."""
        until = self.now + seconds
        while well and self.now + 1 <= until:
            self.now += 1
            self.running.turn()
            self.look()
            await asyncio.sleep(0)
        self.now = until

    def look(self) -> None:
        self.clocks.look("p", self.ledger)

    def stored(self) -> tuple[bytes, bytes]:
        """A checkpoint as it is stored: head and page."""
        pages = Pages(2**20)
        pages.touched(["p"], self.ledger)
        head = CheckpointHead(sequence=1, number=0, halted=0, pages=1, ran_s=self.ledger.ran())
        return msgspec.json.encode(head), msgspec.json.encode(pages.page(0, self.ledger, 1))

    def taken_over(self, head: bytes, page: bytes) -> None:
        """Go on as another process that found this checkpoint, and has run for long."""
        self.running = RunningTime(lambda: self.runs, lambda: self.now)
        self.running.turn()
        self.now += 7
        self.ledger, self._number = Ledger(0, lambda: self.now, self.running.seconds), 0
        self.ledger.restore_head(msgspec.json.decode(head, type=CheckpointHead))
        found = msgspec.json.decode(page, type=CheckpointPage)
        self.ledger.restore("p", *found.counters["p"], found.lives["p"], found.mail.get("p"), 1)


@pytest.mark.fact("A17")
async def test_who_rests_for_its_whole_idle_time_is_reaped_once() -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(TTL - 1)
        assert not clock.asked
        await clock.passes(30)
        assert [(one.persona_id, one.request.reason) for one in clock.asked] == [("p", "idle_ttl")]
        assert clock.idle_s == TTL + 29


@pytest.mark.fact("A17")
async def test_progress_sets_the_clock_to_zero_and_a_repetition_does_not() -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60)
        clock.thinks(novelty=0.1, repeats=True)
        assert clock.idle_s == 60
        await clock.passes(30)
        clock.thinks()
        assert clock.idle_s == 0
        await clock.passes(TTL - 1)
        assert not clock.asked


@pytest.mark.fact("A17")
async def test_waiting_for_credits_stops_the_clock() -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60)
        clock.pauses()
        await clock.passes(5 * TTL)
        assert (clock.idle_s, clock.asked) == (60, [])
        clock.resumes()
        await clock.passes(TTL - 61)
        assert not clock.asked
        await clock.passes(2)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
@pytest.mark.parametrize("how", ["fails", "declares"])
async def test_thinking_by_fallback_stops_the_clock(how: str) -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60)
        if how == "fails":
            clock.thinks(by_model=False, failed=True)
        else:
            clock.falls_back()
        await clock.passes(5 * TTL)
        assert (clock.idle_s, clock.asked) == (60, [])
        clock.thinks(novelty=0.1, repeats=True)
        await clock.passes(TTL - 59)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
async def test_a_stopped_loop_stops_the_clock() -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60.5)
        clock.runs = False
        clock.running.turn()
        await clock.passes(5 * TTL, well=False)
        clock.runs = True
        clock.running.turn()
        assert clock.idle_s == 60.5
        await clock.passes(TTL - 60)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
async def test_an_outage_of_days_counts_for_some_seconds() -> None:
    """Of the broker, or of this process, which somebody had stopped: nobody said that all was well."""
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60)
        await clock.passes(2 * 86_400, well=False)
        assert clock.idle_s == 60 + MOST_S
        clock.look()
        await clock.passes(TTL - 60 - MOST_S - 1)
        assert not clock.asked
        await clock.passes(2)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
@pytest.mark.parametrize("standing", [False, True])
async def test_a_takeover_stops_the_clock_and_sets_it_to_nothing_else(standing: bool) -> None:
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(60)
        if standing:
            clock.pauses()
            await clock.passes(20)
        checkpoint = clock.stored()
        clock.now += 2 * 86_400
        clock.taken_over(*checkpoint)
        assert clock.idle_s == pytest.approx(60)
        if standing:
            clock.resumes()
        await clock.passes(TTL - 61)
        assert not clock.asked
        await clock.passes(2)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
async def test_a_page_that_did_not_change_goes_on_by_the_head_alone() -> None:
    """While everybody rests, heads are all that is stored."""
    async with Clock() as clock:
        clock.thinks()
        await clock.passes(10)
        _, page = clock.stored()
        await clock.passes(50)
        head, _ = clock.stored()
        clock.taken_over(head, page)
        assert clock.idle_s == pytest.approx(60)


@pytest.mark.fact("A17")
async def test_a_page_ahead_of_its_head_sets_no_clock_back_below_what_it_says() -> None:
    async with Clock() as clock:
        clock.thinks()
        head, _ = clock.stored()
        await clock.passes(60)
        _, page = clock.stored()
        clock.taken_over(head, page)
        assert clock.idle_s == pytest.approx(60)
        await clock.passes(TTL - 59)
        assert len(clock.asked) == 1


@pytest.mark.fact("A17")
@pytest.mark.parametrize(("ttl", "wanted"), [(TTL, True), (0, False)])
async def test_only_a_clock_that_may_end_somebody_has_a_checkpoint_stored(ttl: int, wanted: bool) -> None:
    async with Clock(ttl) as clock:
        clock.thinks()
        await clock.passes(3)
        assert clock.ledger.clocks_run is wanted
        clock.pauses()
        clock.ledger.clocks_run = False
        await clock.passes(3)
        assert not clock.ledger.clocks_run, "it stands"
