"""Personas whose credits are being asked for while the loop is started anew or they are reaped [A10, H4].

The scheduler's parts are the simulation's, under its clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from bench.simulation import world as worlds
from bench.simulation.clock import run, wall
from bench.simulation.options import Options
from bench.simulation.people import name_of
from bench.simulation.world import World
from libs.concurrency.tasks import Background
from libs.contracts.journal import Reaped, Reaping, Started, Stopped, Stopping
from libs.contracts.tokens import shard_of
from services.scheduler.adaptive import CYCLE
from services.scheduler.ledger import PersonaLedger
from services.scheduler.owner import ShardOwner

SILENT = Options(
    personas=6, swarm=6, family=6, slots=6, quiet_swarms=0, items_a_day=0.0, urgent_a_minute=0.0,
    posts_an_hour=0.0, bursts=0, storm_minutes=0.0, outage_minutes=0.0,
)  # fmt: skip
NAMES = [name_of(number) for number in range(SILENT.personas)]
ASKED_S = 2.0
Admit = Callable[[dict[str, PersonaLedger]], Awaitable[list[str]]]


async def halted(owner: ShardOwner, number: int) -> None:
    """Do what ends a run on a shard whose thinkers are given no grace."""
    owner.dispatches.drop_ungranted(number)
    owner.ledger.halted = number
    for dispatch in owner.dispatches.of_run(number):
        owner.dispatches.abandon(dispatch)


@pytest.fixture
def lived(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Let a world of six that nobody speaks to live; the loop runs, and a test says what else happens."""

    async def live(meanwhile: Callable[[World], Awaitable[None]]) -> None:
        async with Background() as tasks:
            world = World(SILENT, tasks, lambda seconds: None)
            await world.begin()
            tasks.create_task(world.ticker.run(), name="tick")
            await meanwhile(world)

    monkeypatch.setattr(worlds, "_no_halt", halted)
    return lambda meanwhile: run(live(meanwhile))


def ask_slowly(monkeypatch: pytest.MonkeyPatch, world: World, admit: Admit) -> None:
    """Have the first answer about credits take two seconds."""
    first = [True]

    async def slow(entries: dict[str, PersonaLedger]) -> list[str]:
        if first:
            first.clear()
            decided = await admit(entries)
            await asyncio.sleep(ASKED_S)
            return decided
        return await admit(entries)

    monkeypatch.setattr(world.admitting, "admit", slow)


async def stop(world: World) -> None:
    world.registry.record(Stopping(1, None))
    await asyncio.sleep(0.1)
    world.registry.record(Stopped(1))


def counts(world: World) -> list[int]:
    return [world.owners[shard_of(name)].ledger.persona(name).count for name in NAMES]


@pytest.mark.fact("A10")
@pytest.mark.fact("H4")
@pytest.mark.parametrize("asked", [True, False])
def test_a_loop_started_anew_while_credits_are_asked_for_leaves_nobody_mute(
    monkeypatch: pytest.MonkeyPatch, lived: Callable[..., None], asked: bool
) -> None:
    """Everybody thinks a whole cycle, as where credits are answered at once."""

    async def restart(world: World) -> None:
        if asked:
            ask_slowly(monkeypatch, world, world.admitting.admit)
        await asyncio.sleep(ASKED_S / 2)
        await stop(world)
        at = datetime.fromtimestamp(wall(), UTC)
        world.registry.record(Started(2, SILENT.interval_ms, at))
        await asyncio.sleep(600)
        assert min(counts(world)) >= CYCLE
        assert None not in [world.ticker.next_look(name) for name in NAMES]

    lived(restart)


@pytest.mark.fact("H4")
def test_a_stopped_loop_thinks_nothing_that_was_admitted_meanwhile(
    monkeypatch: pytest.MonkeyPatch, lived: Callable[..., None]
) -> None:
    async def end(world: World) -> None:
        ask_slowly(monkeypatch, world, world.admitting.admit)
        await asyncio.sleep(ASKED_S / 2)
        await stop(world)
        await asyncio.sleep(600)
        assert counts(world) == [0] * len(NAMES)
        assert [world.ticker.next_look(name) for name in NAMES] == [None] * len(NAMES)

    lived(end)


@pytest.mark.fact("A10")
def test_who_is_reaped_while_its_credits_are_asked_for_is_looked_at_no_more(
    monkeypatch: pytest.MonkeyPatch, lived: Callable[..., None]
) -> None:
    async def refuse(entries: dict[str, PersonaLedger]) -> list[str]:
        return []

    async def reap(world: World) -> None:
        ask_slowly(monkeypatch, world, refuse)
        await asyncio.sleep(ASKED_S / 2)
        gone = NAMES[-1]
        at = datetime.fromtimestamp(wall(), UTC)
        world.registry.record(Reaping([gone], "tidied away", False, at), Reaped([gone]))
        await asyncio.sleep(ASKED_S)
        looks = [world.ticker.next_look(name) is not None for name in NAMES]
        assert looks == [name != gone for name in NAMES], "nobody is answered, so everybody else looks again"

    lived(reap)
