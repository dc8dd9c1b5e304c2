"""One storm: load, faults, calm, and what the whole stream shows afterwards."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.bus.connection import connect
from libs.bus.read import stream_state
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from tests.chaos import field as fields
from tests.chaos import lives
from tests.chaos.changes import Changes
from tests.chaos.clients import Clients, Truth
from tests.chaos.collector import Collector
from tests.chaos.faults import Faults
from tests.chaos.field import Field
from tests.chaos.lively import Lively
from tests.chaos.model import model
from tests.chaos.plan import Kind, plan
from tests.chaos.twice import Twice
from tests.chaos.verdict import verdict

_FELL_BEHIND = "j.registry: record"
_READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Options:
    """What a storm is to be."""

    seed: int
    faults: int
    brokers: int = 1
    personas: int = 200
    interval_ms: int = 100
    disk: bool = True
    lively: bool = False
    """Adaptive cadence, a model that answers, messages, posts, shared memory, credits that run out.

    Clocks do not jump.
    """

    sync_always: bool = False
    """The broker flushes each write, and public streams take atomic batches."""

    leases: bool = True
    """Whether services know of each other; else each owns every shard, and each publishes."""


@dataclass
class Report:
    """What a storm was."""

    options: Options
    done: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)
    """Kinds that were wanted and that this machine cannot do, each with what is missing."""

    findings: list[str] = field(default_factory=list)
    thoughts: int = 0
    events: int = 0
    personas: int = 0
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, kind: str, *, done: bool) -> None:
        """Count a fault, or one that could not be done."""
        counts = self.done if done else self.left_out
        counts[kind] = counts.get(kind, 0) + 1

    @property
    def faults(self) -> int:
        return sum(self.done.values())


async def blow(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run one storm."""
    report = Report(options)
    settings = {
        "CODETETHER_COGNITION_LOOP_INTERVAL_MS": str(options.interval_ms),
        "CODETETHER_COGNITION_THINKER_ENABLED": "false",
        "PERPETUA_CAPTURE": "off",
    }
    began = time.monotonic()
    with ExitStack() as stack:
        if options.lively:
            settings |= lives.SETTINGS
            settings["CODETETHER_COGNITION_THINKER_BASE_URL"] = stack.enter_context(model())
        async with fields.field(
            options.brokers,
            settings,
            disk=options.disk,
            sync_always=options.sync_always,
            leases=options.leases,
        ) as ground:
            await _storm(ground, options, report, say)
    report.seconds = time.monotonic() - began
    return report


def _beyond(ground: Field, options: Options) -> list[str]:
    beyond = []
    if not ground.clocks and not options.lively:
        beyond.append("clock (no libfaketime)")
    if options.disk and options.brokers == 1 and not ground.brokers.small:
        beyond.append("disk full (only root may mount a small disk)")
    return beyond


async def _storm(ground: Field, options: Options, report: Report, say: Callable[[str], None]) -> None:
    rng = random.Random(options.seed)
    async with connect(",".join(ground.brokers.urls), "storm", NoTelemetry()) as bus:
        collector, twice = Collector(bus), Twice(bus)
        await twice.listen()
        async with (
            Clients(
                ground.url,
                rng,
                lambda: (collector.sequence, collector.total),
                lives.life_of if options.lively else lambda name: {},
            ) as clients,
            Background() as tasks,
        ):
            lively = Lively(bus, clients, collector, options.seed) if options.lively else None
            tasks.create_task(collector.run(), name="collector")
            await _until(_READY_WITHIN_S, "the API", lambda: _answers(clients))
            await clients.populate(options.personas - 1)
            if lively is not None:
                await clients.populate_trees(lives.POOR_TREE)
            truth = Truth(clients, lambda: collector.newest_at)
            await _all_go_on(collector, clients)
            say(f"{len(collector.thoughts)} personas think")
            changes = Changes(clients, random.Random(options.seed), options.personas - 1, options.interval_ms)
            asking = [
                tasks.create_task(clients.run(), name="clients"),
                tasks.create_task(changes.run(), name="changes"),
            ]
            if lively is not None:
                lively.begin(tasks)
            looking = tasks.create_task(truth.run(), name="truth")
            report.beyond = _beyond(ground, options)
            for what in report.beyond:
                say(f"no fault of this kind: {what}")
            faults = Faults(ground, bus, twice)
            planned = plan(
                options.seed, options.faults, options.brokers,
                clocks=ground.clocks is not None and not options.lively, disk=ground.brokers.small,
            )  # fmt: skip
            for fault in planned:
                done = await faults.do(fault)
                report.note(fault.kind.value, done=done)
                say(f"{fault.kind} {fault.target} {fault.seconds:g} s{'' if done else ' (left out)'}")
                await asyncio.sleep(fault.pause)
            await faults.over()
            ground.calm()
            clients.ending = True
            await asyncio.gather(*asking)
            if lively is not None:
                await lively.end()
            report.findings += await verdict(
                bus, clients, collector, changes,
                lively=options.lively, leases=options.leases, filled=Kind.DISK_FULL in report.done,
            )  # fmt: skip
            if lively is not None:
                report.findings += await lively.findings()
                report.facts = lively.facts()
            looking.cancel()
            report.findings += truth.findings + collector.findings + clients.book.findings
            report.findings += changes.findings
            report.findings += own_ends(ground, faults)
            if report.findings:
                ground.logs_kept = Path(tempfile.mkdtemp(prefix=f"perpetua-storm-{options.seed}-")) / "logs"
                say(f"logs are in {ground.logs_kept}")
            report.thoughts, report.events = collector.total, collector.sequence
            report.personas = len(collector.spawned)
            report.facts |= {
                "statuses": truth.answers,
                "imported": changes.imported,
                "answers": dict(sorted(clients.book.answers.items())),
                "repeated messages": twice.repeated,
                "fallbacks": dict(collector.errors),
                "started anew": sum(_FELL_BEHIND in text for _, text in ground.lines),
                "sessions of publishers": ground.said("publishing"),
                "shards lost by": ground.said("shard_lost"),
                "oldest tick": round(truth.oldest, 1),
                "dead letters": int((await stream_state(bus, "DEAD_LETTERS"))["messages"]),
            }


def own_ends(ground: Field, faults: Faults) -> list[str]:
    """Return who ended without having been told to.

    Who was stopped for so long that `j.registry` was trimmed behind it says so and starts anew, as it should.
    """
    behind = [name for name, text in ground.lines if _FELL_BEHIND in text and "process_ends" in text]
    said = [text for _, text in ground.lines if "process_ends" in text or "process_crashed" in text][-3:]
    told, ended = Counter([*faults.asked_to_end, *behind]), Counter(name for name, _ in ground.ended)
    return [
        f"{name} ended {count} times, told {told[name]}: {_how(ground, name)}, {said}"
        for name, count in ended.items()
        if count > told[name]
    ]


def _how(ground: Field, name: str) -> list[str]:
    return [how for ended, how in ground.ended if ended == name]


async def _answers(clients: Clients) -> bool:
    status, answer = await clients.ask("GET", "/v1/cognition/status")
    return status == 200 and bool(answer["running"])


async def _all_go_on(collector: Collector, clients: Clients) -> None:
    wanted = set(clients.book.created)
    await _until(
        _READY_WITHIN_S, "every persona's first thought", lambda: wanted <= collector.thoughts.keys()
    )


async def _until(within: float, what: str, check: Callable[[], bool | Awaitable[bool]]) -> None:
    deadline = time.monotonic() + within
    while True:
        held = check()
        if isinstance(held, Awaitable):
            held = await held
        if held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within:g} s")
        await asyncio.sleep(0.1)
