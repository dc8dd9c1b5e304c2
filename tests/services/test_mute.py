"""Nothing is registered but mute: who is not ticked is counted, and why is said [H3, H4]."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.presence import Peers, list_present
from libs.contracts import subjects
from libs.contracts.control import CognitionStatus, StartCognitionRequest
from libs.contracts.limits import SHARDS
from libs.contracts.presence import BootSummary
from libs.contracts.registry import LoopPhase, LoopState, RegistryStatus
from libs.contracts.tokens import shard_of
from libs.contracts.work import SchedulerStatus
from services.gateway.peers import Swarm, ticked_of, why_not_ticked
from services.scheduler import census
from tests.services.crashing import Running
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.http import fetch
from tests.unit.make import create

TORN = 5
OTHERS = [f"p{number}" for number in range(20) if shard_of(f"p{number}") != TORN]
MUTE = next(f"m{number}" for number in range(1000) if shard_of(f"m{number}") == TORN)


@pytest.mark.fact("H3")
@pytest.mark.fact("H4")
async def test_a_persona_of_a_shard_that_nobody_can_take_over_is_counted_and_the_reason_said(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "COUNTED_FOR_S", 0.0)
    await bus.publish(subjects.checkpoint_head(TORN), b"torn")
    running = [Running(name, broker.url) for name in ("registry", "scheduler")]
    try:
        registry, scheduler = [await run.until_ready() for run in running]
        peers = Peers(bus, "scheduler", subjects.presence_key("gateway", "test"))
        await peers.prime()
        swarm = Swarm(bus, peers)
        await swarm.start(StartCognitionRequest())
        for name in (*OTHERS, MUTE):
            await swarm.create(create(name))
        status = await status_of(swarm, len(OTHERS))
        assert status.running, "the others go on"
        there = status.active_persona_count
        assert (there - status.ticked_persona_count) == 1
        assert (status.not_ticked_because or "").startswith(f"shard {TORN}: ")
        assert "restore it from a backup" in (status.not_ticked_because or "")
        await eventually(lambda: scheduler.counted("perpetua_personas_not_ticked", reason="shard") == 1)
        assert scheduler.counted("perpetua_personas_ticked") == there - 1
        assert scheduler.counted("perpetua_personas_not_ticked", reason="loop") == 0
        assert registry.counted("perpetua_personas", status="active") == there
        await everywhere(bus, broker, scheduler)
    finally:
        for run in running:
            await run.close()


async def status_of(swarm: Swarm, least: int) -> CognitionStatus:
    """The status once at least so many are ticked, and all but one."""
    found: list[CognitionStatus] = []

    async def ticked() -> bool:
        found.append(await swarm.status())
        there = found[-1].active_persona_count
        return found[-1].ticked_persona_count >= least and there - found[-1].ticked_persona_count == 1

    await eventually(ticked, 30, "the others are ticked, and one is not")
    return found[-1]


async def everywhere(bus: Bus, broker: Broker, scheduler: Running) -> None:
    """The summary is the same over the bus, at `/readyz` and in `perpetua ps`."""
    assert scheduler.process is not None
    said = {record.service: record.summary for record in await list_present(bus)}
    assert all(summary is not None and summary.versions for summary in said.values())
    summary = said["scheduler"]
    assert summary is not None
    assert (summary.hosted, summary.attempted) == (SHARDS - 1, SHARDS)
    assert [failure.slot_index for failure in summary.failures] == [TORN]
    answer = await asyncio.to_thread(fetch, f"http://127.0.0.1:{scheduler.process.metrics_port}/readyz")
    assert msgspec.convert(answer.json["boot"], BootSummary) == summary
    command = [sys.executable, "-m", "libs.cli", "ps", "--nats-url", broker.url]
    shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    assert f"scheduler-x goes on without shard {TORN}: {summary.failures[0].reason}" in shown.stdout
    told = await asyncio.to_thread(subprocess.run, [*command, "--json"], capture_output=True, timeout=120)
    rows = {row["service"]: row["summary"] for row in json.loads(told.stdout)}
    assert msgspec.convert(rows["scheduler"], BootSummary) == summary


def registry_status(phase: LoopPhase, *, enabled: bool = True) -> RegistryStatus:
    loop = LoopState(phase=phase, run=3, interval_ms=1000, started_at=None)
    return RegistryStatus(enabled=enabled, loop=loop, persona_count=5, active_persona_count=4)


def scheduler_status(run: int = 3, missing: list[str] | None = None) -> SchedulerStatus:
    return SchedulerStatus(
        instance="s", ticking=True, run=run, last_tick_at=None, shards=1, personas=3, missing=missing or []
    )


@pytest.mark.fact("H4")
@pytest.mark.parametrize(
    ("registry", "schedulers", "ticked", "why"),
    [
        (registry_status(LoopPhase.RUNNING, enabled=False), [], 0, "disabled by"),
        (registry_status(LoopPhase.STOPPED), [scheduler_status(run=2)], 0, "the loop is stopped"),
        (registry_status(LoopPhase.RUNNING), [], 0, "no scheduler answers"),
        (registry_status(LoopPhase.RUNNING), [scheduler_status(run=2)], 0, "are being taken over"),
        (registry_status(LoopPhase.RUNNING), [scheduler_status(missing=["shard 9: no"])], 3, "shard 9: no"),
        (registry_status(LoopPhase.RUNNING), [scheduler_status(), scheduler_status()], 4, ""),
    ],
)  # fmt: skip
def test_each_reason_is_told_from_the_others(
    registry: RegistryStatus, schedulers: list[SchedulerStatus], ticked: int, why: str
) -> None:
    assert ticked_of(registry, schedulers) == ticked
    assert why in why_not_ticked(registry, schedulers)
