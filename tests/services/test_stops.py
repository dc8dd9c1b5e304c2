"""Stopping the loop with two registries: whoever answers, answers that the run is over [4.2]."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from libs.bus.connection import Bus
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import Stopped
from libs.contracts.limits import SHARDS
from libs.contracts.registry import LoopPhase
from services.registry.running import Runner
from tests.services.support import Registry, owner, registry, registry_records
from tests.support.eventually import eventually
from tests.unit.make import create

ROUNDS = 8
SPOILT = {"bytes that are no text": (b"\xff\xfe", {}), "deleted": (b"", {"KV-Operation": "DEL"})}


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


@pytest.mark.fact("4.1")
@pytest.mark.parametrize("how", SPOILT)
async def test_where_the_loop_s_record_is_lost_a_start_begins_a_run_above_all_that_were_halted(
    bus: Bus, how: str
) -> None:
    """Found by reading: runs began at 1 again, and shards refused the thoughts of those that they had had."""
    async with registry(bus) as one:
        for _ in range(ROUNDS):
            await one.committer.commit(lambda view: one.rules.start(view, StartCognitionRequest()))
            await runner(one).stop(None)
        last = await one.create(create("behind-the-loop"))
        await eventually(lambda: one.buckets.written == last.sequence)
    await bus.publish(subjects.LOOP_KEY, *SPOILT[how])
    purge = {"filter": subjects.JOURNAL_REGISTRY, "seq": last.sequence}
    await bus.api("STREAM.PURGE.JOURNAL", purge)
    with capture_logs() as logs:
        async with registry(bus, number=2) as two:
            assert two.roster.loop is None
            await two.committer.commit(lambda view: two.rules.start(view, StartCognitionRequest()))
            begun = runner(two).loop
    said = [entry["then"] for entry in logs if entry["event"] == "loop_not_read"]
    assert said == [] if how == "deleted" else len(said) == 1 and "above all that there were" in said[0]
    assert begun.phase is LoopPhase.RUNNING
    for shard in (0, SHARDS - 1):
        taken = owner(bus, shard, "after")
        await taken.take_over()
        assert taken.is_halted(ROUNDS)
        assert not taken.is_halted(begun.run)
