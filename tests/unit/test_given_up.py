"""A thought that is given up costs its persona a second, and nobody looks for such personas [A10, A11]."""

from __future__ import annotations

import asyncio

import pytest

from bench.simulation.clock import run
from bench.simulation.options import Options
from bench.simulation.people import name_of
from bench.simulation.world import World
from libs.concurrency.tasks import Background
from libs.contracts.tokens import shard_of
from services.scheduler.dispatches import Dispatch
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

OPTIONS = Options(personas=12, hours=0.1, items_a_day=0.001, urgent_a_minute=0.0, posts_an_hour=0.0, bursts=0)


@pytest.mark.fact("A10")
def test_a_persona_whose_thought_is_given_up_looks_again_within_two_seconds() -> None:
    lost: dict[str, float] = {}
    again: dict[str, float] = {}

    async def scenario() -> World:
        async with Background() as tasks:
            world = World(OPTIONS, tasks, lambda _: None)
            await world.begin()
            await asyncio.sleep(0)
            queue, now = world.dispatching.queue, asyncio.get_running_loop().time

            def lose(owner: ShardOwner, dispatch: Dispatch) -> None:
                """Lose the first thought of everybody."""
                for persona_id in dispatch.waiting:
                    (again if persona_id in lost else lost).setdefault(persona_id, now())
                if again.keys().isdisjoint(dispatch.waiting):
                    owner.dispatches.abandon(dispatch)
                else:
                    queue(owner, dispatch)

            world.dispatching.queue = lose
            tasks.create_task(world.ticker.run(), name="tick")
            await asyncio.sleep(120)
            return world

    world = run(scenario())
    assert lost.keys() == again.keys() == {name_of(number) for number in range(OPTIONS.personas)}
    assert all(1.0 <= again[name] - lost[name] <= 2.0 for name in lost)
    for name in lost:
        entry = world.owners[shard_of(name)].ledger.persona(name)
        assert entry.count == 4, "its whole first cycle; then it rests"


@pytest.mark.fact("A11")
def test_a_turn_of_the_loop_touches_nobody_who_rests() -> None:
    """With ten times as many at rest a turn looks up no more: what is lost says so itself."""

    class Counted(dict[str, None]):
        read = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counted.read += len(self)
            return super().__iter__()

    async def scenario() -> int:
        async with Background() as tasks:
            world = World(OPTIONS, tasks, lambda _: None)
            await world.begin()
            tasks.create_task(world.ticker.run(), name="tick")
            await asyncio.sleep(300)
            members = world.ticker._members
            for shard, names in members.items():
                members[shard] = Counted(names)
            await asyncio.sleep(300)
            seen.append(world.metrics)
            return sum(len(names) for names in members.values())

    seen: list[SchedulerMetrics] = []
    assert run(scenario()) == OPTIONS.personas
    assert Counted.read == 0
    samples = [sample for metric in seen[0].lag.collect() for sample in metric.samples]
    late = [sample.value for sample in samples if sample.name.endswith("_sum")]
    assert 0.0 <= late[0] < 1.0, "they look when they are due, all together a second late at most"
