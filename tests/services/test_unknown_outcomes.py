"""Appends whose outcome nobody knows, because the broker fell silent: what was asked for happens once."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus
from libs.contracts.journal import Spawned
from tests.bus.support import kill_while_paused
from tests.services.support import registry, registry_records
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import create


@pytest.fixture
def impatient(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishes time out soon. Before each repetition is a pause, in which a follower may be faster."""
    monkeypatch.setattr(bus.publisher, "_deadline", 0.3)


@pytest.mark.fact("2.4")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("persona_id", ["p", None])
async def test_a_creation_that_was_stored_unknown_to_its_registry_is_not_made_twice(
    bus: Bus, broker: Broker, persona_id: str | None
) -> None:
    """The follower folds the record before the append is repeated: the repetition must not follow it."""
    async with registry(bus, in_charge=False) as one:
        await one.create(create("first"))
        broker.pause()
        creating = asyncio.create_task(one.create(create(persona_id)))
        await eventually(lambda: bus.publisher.outstanding == 1, what="the append")
        await eventually(lambda: bus.publisher.outstanding == 0, what="its deadline")
        broker.resume()
        done = await asyncio.wait_for(creating, 30)
        (spawned,) = done.decision.changes
        assert isinstance(spawned, Spawned)
        assert one.roster.personas.keys() == {"first", spawned.persona.identity.id}
    assert [record.number for record in await registry_records(bus)] == [1, 2]


@pytest.mark.fact("2.4")
@pytest.mark.usefixtures("impatient")
async def test_creations_while_the_broker_is_away_happen_once_each(bus: Bus, broker: Broker) -> None:
    async with registry(bus, in_charge=False) as one:
        broker.pause()
        creating = [asyncio.create_task(one.create(create(None))) for _ in range(20)]
        await eventually(lambda: bus.publisher.outstanding, what="the append")
        kill_while_paused(broker)
        await eventually(lambda: not bus.connected)
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(asyncio.gather(*creating), 30)
        assert len(one.roster.personas) == 20
    numbers = [record.number for record in await registry_records(bus)]
    assert numbers == list(range(1, len(numbers) + 1))
