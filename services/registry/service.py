"""The registry's composition and lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from prometheus_client import Gauge

from libs.bus.endpoints import Gate, listening, micro_service
from libs.bus.loop import MessageLoop
from libs.bus.presence import Peers, in_charge
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.journal import Halted
from libs.contracts.presence import BootSummary
from libs.journal.position import watch_position
from libs.journal.tail import Tail
from libs.roster.load import follow, load
from libs.roster.state import Roster
from libs.runtime.process import Process, own_version, versions
from services.registry.broker import BrokerMetrics, watch_broker
from services.registry.buckets import Buckets
from services.registry.committer import Committer
from services.registry.handlers import Handlers
from services.registry.reaping import Reaper
from services.registry.rules import Rules
from services.registry.running import Runner


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Load the roster, answer requests, finish what is half done; drain by answering what was asked."""
    bus, telemetry = process.bus, process.metrics
    roster = Roster()
    peers = Peers(bus, "registry", process.presence.subject)
    alone = in_charge(peers, "registry", process.settings.instance)
    async with watch_position(bus) as position, Background() as tasks:
        buckets = Buckets(bus, roster, position, alone)

        def fold(sequence: int, data: bytes) -> None:
            buckets.note(roster.fold(sequence, data), sequence)

        tail = Tail(bus, subjects.JOURNAL_REGISTRY, fold)
        buckets.revisions = await load(bus, tail, roster, telemetry)
        rules = _rules(process)
        committer = Committer(tail, roster, process.boot)
        reaper = Reaper(bus, committer, roster, rules, alone)
        runner = Runner(bus, committer, roster, rules, position, alone)
        tasks.create_task(peers.run(), name="peers")
        tasks.create_task(follow(bus, tail, telemetry), name="follow-journal")
        for name, work in {
            "commit": committer.run(),
            "buckets": buckets.run(tail),
            "announce": reaper.run(),
            "finish-stops": runner.run(),
            "broker-metrics": watch_broker(bus, BrokerMetrics(process.metrics.registry)),
        }.items():
            tasks.create_task(work, name=name)
        _measure(process, roster, tail)
        await runner.begin()
        handlers = Handlers(tail, roster, rules, committer, reaper, runner)
        notices = MessageLoop("halted", msgspec.json.Decoder(Halted).decode, runner.halted, telemetry)
        async with (
            Gate() as gate,
            listening(bus, subjects.HALTED, notices, gate),
            micro_service(
                bus,
                "registry",
                own_version(),
                "Personas, their lineage, and whether the loop is to run",
                subjects.REGISTRY,
                handlers.endpoints(),
                telemetry,
                gate,
            ),
        ):
            process.set_ready(
                BootSummary(service="registry", hosted=1, versions=versions("nats-py", "msgspec"))
            )
            yield


def _rules(process: Process) -> Rules:
    return Rules(
        enabled=process.cognition.enabled,
        auto_start=process.cognition.auto_start,
        default_interval_ms=process.cognition.loop_interval_ms,
        default_policy=process.cognition.policy,
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid4()),
    )


def _measure(process: Process, roster: Roster, tail: Tail) -> None:
    registry = process.metrics.registry
    personas = Gauge("perpetua_personas", "Personas, by status.", ["status"], registry=registry)
    personas.labels("active").set_function(lambda: roster.active)
    personas.labels("inactive").set_function(lambda: len(roster.personas) - roster.active)
    held = Gauge("perpetua_registry_journal_records", "Records of j.registry not trimmed.", registry=registry)
    held.set_function(lambda: tail.held)
