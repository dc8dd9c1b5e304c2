"""Two registries decide at once: the journal lets one of them win, and the other decides again [2.4, 2.8]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.telemetry import NoTelemetry
from libs.contracts.journal import Reaped, Reaping, Spawned
from libs.contracts.personas import PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import Conflict, LimitReached, Refusal
from services.registry.committer import Committed
from tests.services.support import Registry, registry, registry_records
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import create

ROUNDS = 25
CASCADE = ReapPersonaRequest(cascade=True)


@pytest.fixture
async def two(bus: Bus, broker: Broker) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two registries, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(connect(broker.url, "other", NoTelemetry()))
        first = await stack.enter_async_context(registry(bus, number=1))
        second = await stack.enter_async_context(registry(other, number=2, in_charge=False))
        yield first, second


async def outcome(registry: Registry, persona_id: str, parent_id: str | None = None) -> Committed | Refusal:
    try:
        return await registry.create(create(persona_id, parent_id))
    except Refusal as refusal:
        return refusal


async def agreed(bus: Bus, two: tuple[Registry, Registry]) -> None:
    """Both have folded the same, their records are numbered without gap or repeat, and so is the journal."""
    for _ in range(2):  # what is reaped may be announced between the two
        for one in two:
            await one.tail.sync()
        await eventually(lambda: not two[0].roster.unannounced(), what="the announcements")
    assert two[0].roster.personas == two[1].roster.personas
    assert two[0].roster.living_children == two[1].roster.living_children
    numbers = [record.number for record in await registry_records(bus)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert two[0].roster.number == two[1].roster.number == numbers[-1]


@pytest.mark.fact("2.4")
async def test_of_spawns_that_race_for_the_last_place_exactly_one_wins(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    limit = PolicyRequest(max_branching_factor=1)
    for n in range(ROUNDS):
        await two[n % 2].create(create(f"parent-{n}", policy=limit))
        done = await asyncio.gather(*[outcome(two[i], f"child-{n}-{i}", f"parent-{n}") for i in range(2)])
        (lost,) = [one for one in done if isinstance(one, Refusal)]
        assert (type(lost), lost.detail) == (LimitReached, f"Parent parent-{n} reached branching limit 1")
        assert two[0].roster.living_children[f"parent-{n}"] == 1
    await agreed(bus, two)


@pytest.mark.fact("2.4")
async def test_many_spawns_at_once_fill_a_parent_exactly_to_its_limit(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    await two[0].create(create("parent", policy=PolicyRequest(max_branching_factor=7)))
    done = await asyncio.gather(*[outcome(two[n % 2], f"child-{n}", "parent") for n in range(40)])
    assert sum(isinstance(one, Committed) for one in done) == 7
    await agreed(bus, two)
    assert two[1].roster.living_children["parent"] == 7
    assert len(two[1].roster.children["parent"]) == 7


@pytest.mark.fact("2.4")
async def test_of_creates_of_one_id_exactly_one_wins_and_the_other_gets_409(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    for n in range(ROUNDS):
        done = await asyncio.gather(*[outcome(one, f"p-{n}") for one in (*two, *two)])
        refused = [one for one in done if isinstance(one, Refusal)]
        assert [(one.status, one.detail) for one in refused] == [
            (409, f"Persona id already exists: p-{n}")
        ] * 3
    await agreed(bus, two)
    spawned = [c for record in await registry_records(bus) for c in record.changes if isinstance(c, Spawned)]
    events = [event for record in await registry_records(bus) for event in record.events]
    assert len(spawned) == len(events), "each with its one persona_spawned [2.7]"
    assert len({change.persona.identity.id for change in spawned}) == len(spawned)


@pytest.mark.fact("2.4")
async def test_a_refusal_stands_on_everything_that_was_answered_before(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    """Also where the journal's follower folds the missing record while the refusal is being made sure of."""
    for n in range(ROUNDS):
        await two[0].create(create(f"p-{n}"))
        assert isinstance(await outcome(two[1], f"child-{n}", f"p-{n}"), Committed)
        assert isinstance(await outcome(two[0], f"child-{n}", f"p-{n}"), Conflict)
    await agreed(bus, two)


@pytest.mark.fact("2.8")
async def test_a_cascade_that_races_a_spawn_leaves_no_living_child_below_a_reaped_parent(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    for n in range(ROUNDS):
        parent, child = f"parent-{n}", f"child-{n}"
        await two[0].create(create(parent))
        await two[1].tail.sync()
        reaped, spawned = await asyncio.gather(
            two[n % 2].reaper.reap(parent, CASCADE), outcome(two[1 - n % 2], child, parent)
        )
        if isinstance(spawned, Refusal):
            assert (type(spawned), spawned.detail) == (Conflict, f"Parent persona {parent} is reaped")
            assert reaped.reaped_ids == [parent]
        else:
            assert reaped.reaped_ids == [parent, child]
        await two[1].tail.sync()
        assert two[1].roster.is_reaped(child)
    await agreed(bus, two)


@pytest.mark.fact("2.8")
async def test_a_reap_that_races_itself_reaps_and_announces_once(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    for n in range(ROUNDS // 2):
        await two[0].create(create(f"p-{n}"))
        await two[1].tail.sync()
        answers = await asyncio.gather(*[one.reaper.reap(f"p-{n}", CASCADE) for one in two])
        assert sorted(answer.count for answer in answers) == [0, 1]
    await agreed(bus, two)
    changes = [change for record in await registry_records(bus) for change in record.changes]
    for kind in (Reaping, Reaped):
        named = [name for change in changes if isinstance(change, kind) for name in change.persona_ids]
        assert len(named) == len(set(named)) == ROUNDS // 2
    told = [e for r in await registry_records(bus) for e in r.events if e.event_type == "persona_reaped"]
    assert len(told) == ROUNDS // 2


@pytest.mark.fact("2.4")
async def test_a_reap_frees_the_place_for_exactly_one_of_those_that_race_for_it(
    bus: Bus, two: tuple[Registry, Registry]
) -> None:
    await two[0].create(create("parent", policy=PolicyRequest(max_branching_factor=1)))
    await two[0].create(create("child-0", "parent"))
    for n in range(ROUNDS // 2):
        await two[0].reaper.reap(f"child-{n}", CASCADE)
        done = await asyncio.gather(*[outcome(one, f"child-{n + 1}", "parent") for one in two])
        assert sum(isinstance(one, Committed) for one in done) == 1
        assert two[0].roster.living_children["parent"] == 1
    await agreed(bus, two)
