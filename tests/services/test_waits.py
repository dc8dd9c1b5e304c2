"""Whom a persona waits for is known to who takes its shard over, and though messages were lost [A15]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.personas import DependenciesRequest
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.registry.dependencies import set_dependencies
from services.scheduler.waits import Waits
from tests.chaos.proxy import Proxy
from tests.services.support import owner
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import NOW, Tree, thought

SWARM = "swarm-core"
"""That of the thoughts."""

NOBODY = 1
"""A port on which nobody listens."""


def people() -> Roster:
    """Cy waits for Ann and Bob."""
    tree = Tree()
    for name in ("ann", "bob", "cy"):
        tree.create(name, swarm_id=SWARM)
    tree.carry_out(set_dependencies(tree.view, "cy", DependenciesRequest(waiting_for=["ann", "bob"]), NOW))
    return tree.roster


@asynccontextmanager
async def waiting(bus: Bus, began: datetime | None) -> AsyncIterator[tuple[Waits, list[str]]]:
    """A process that takes over the shard of Cy, whose last thought began then; and whom it told."""
    completed: list[str] = []
    taken = owner(bus, shard_of("cy"), "next")
    taken.ledger.restore("cy", 4, began)
    async with Background() as tasks:
        waits = Waits(bus, people(), completed.append, tasks)
        waits.resume(taken, "cy")
        with bus.on_reconnect(waits.reconnected):
            yield waits, completed


async def think(bus: Bus, name: str, count: int) -> None:
    """Have the events of a thought stored, as the publisher does."""
    made = thought(name, count)
    for kind, event in made.events:
        await bus.publish(subjects.event_in(made.swarm_id, name, kind), bytes(event))


@pytest.mark.fact("A15")
async def test_what_was_completed_before_a_takeover_is_waited_for_no_more(bus: Bus) -> None:
    """Bob has thought before Cy's last thought, and Ann since then; both before the new owner listens."""
    await think(bus, "bob", 8)
    began = datetime.now(UTC)
    await think(bus, "ann", 7)
    async with waiting(bus, began) as (waits, completed):
        await eventually(lambda: waits.unfinished("cy") == ["bob"])
        assert not completed
        await think(bus, "bob", 9)
        await eventually(lambda: completed)
        assert waits.complete("cy")
    async with waiting(bus, began) as (waits, completed):
        await eventually(lambda: completed)
        assert waits.complete("cy"), "and so for the owner after that"
    async with waiting(bus, datetime.now(UTC)) as (waits, completed):
        await think(bus, "ann", 8)
        await eventually(lambda: waits.unfinished("cy") == ["bob"])
        assert not completed, "what was thought before counts for nothing"


@pytest.mark.fact("A15")
async def test_what_was_thought_while_the_connection_was_lost_is_heard_of(bus: Bus, broker: Broker) -> None:
    proxy = await Proxy(broker.port).open()
    async with (
        connect(proxy.url, "cut off", NoTelemetry()) as cut_off,
        waiting(cut_off, datetime.now(UTC) - timedelta(seconds=1)) as (waits, completed),
    ):
        await think(bus, "ann", 7)
        await eventually(lambda: waits.unfinished("cy") == ["bob"])
        proxy.target_port = NOBODY
        proxy.cut()
        await eventually(lambda: not cut_off.connected)
        await think(bus, "bob", 8)
        proxy.target_port = broker.port
        await eventually(lambda: completed, within=20)
        assert waits.complete("cy")
    proxy.close()
