"""Stopping the loop with two registries: whoever answers, answers that the run is over [4.2]."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus
from libs.concurrency.tasks import Background
from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import Stopped
from libs.contracts.registry import LoopPhase
from services.registry.running import Runner
from tests.services.support import Registry, registry, registry_records

ROUNDS = 8


def runner(of: Registry) -> Runner:
    of.position.advance(2**60)  # as if everything were public at once
    return Runner(of.bus, of.committer, of.roster, of.rules, of.position, lambda: of.in_charge)


@pytest.mark.fact("4.2")
async def test_a_stop_that_another_registry_has_begun_is_waited_for(bus: Bus) -> None:
    async with registry(bus, number=1) as first, registry(bus, in_charge=False, number=2) as second:
        runners = [runner(first), runner(second)]
        for run in range(1, ROUNDS + 1):
            await first.committer.commit(lambda view: first.rules.start(view, StartCognitionRequest()))
            await second.tail.sync()
            stops = [asyncio.create_task(one.stop(f"by {n}")) for n, one in enumerate(runners)]
            async with Background():
                done, _ = await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    assert task.result().phase is LoopPhase.STOPPED
                    assert task.result().run == run
                assert [(await task).phase for task in stops] == [LoopPhase.STOPPED] * 2
        records = await registry_records(bus)
        stopped = [c.run for record in records for c in record.changes if isinstance(c, Stopped)]
        assert stopped == list(range(1, ROUNDS + 1))
        ended = [event for record in records for event in record.events if event.persona_id is None]
        assert len(ended) <= 2 * ROUNDS
