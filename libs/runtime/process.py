"""One lifespan for every process: settings, logs, health, broker, presence, service; closed in reverse.

Exit status: 0 after a drain, 78 (EX_CONFIG) when the configuration is wrong, 1 after a crash.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import structlog
import uvloop

from libs.bus.connection import Bus, connect
from libs.bus.errors import BusError
from libs.bus.loop import Fatal
from libs.bus.presence import Presence
from libs.bus.provision import wait_until_provisioned
from libs.concurrency.tasks import Background, beside, leaves, told_of, watch_tasks
from libs.contracts.presence import BootSummary, PresenceRecord
from libs.runtime import logs
from libs.runtime.crashes import Crashes, told, why
from libs.runtime.errors import ConfigurationError as ConfigurationError
from libs.runtime.health import Health, HealthServer
from libs.runtime.metrics import ProcessMetrics, WeightedHistogram
from libs.runtime.plain import plain
from libs.settings.cognition import CognitionSettings, cognition_reader, read_cognition
from libs.settings.process import CANCELLING_S, ProcessSettings, process_reader, read_process
from libs.settings.reader import EX_CONFIG, SettingError
from libs.settings.tracing import TracingSettings, read_tracing, tracing_reader
from libs.tracing.spans import Tracer

log = structlog.get_logger("process")

_BEAT_S = 3.0
_COLLECT_AFTER = 50_000
_EXPORT_WITHIN_S = 1.5
"""For so long, in seconds, a process that ends waits for its last spans to be exported."""


@dataclass
class Process:
    """What a service lives in."""

    service: str
    settings: ProcessSettings
    cognition: CognitionSettings
    bus: Bus
    metrics: ProcessMetrics
    boot: str
    """Unique to this start of the process; names it in the journal."""

    since: datetime
    health: Health
    metrics_port: int
    leaving: bool = False
    ended: str | None = None
    """What has ended this process, once an error has."""

    summary: BootSummary | None = None
    stages: dict[str, WeightedHistogram] = field(default_factory=dict)
    """What this process measures of thoughts, by stage; people see counts and extremes [H16]."""

    outcomes: Callable[[], dict[str, int]] = dict
    """What became of thoughts, where this process decides it."""

    presence: Presence = field(init=False)
    _activity: tuple[str, datetime] | None = None

    def __post_init__(self) -> None:
        self.health.detail = lambda: self.summary
        self.health.blocked = lambda: self.bus.trouble
        self.metrics.ready.set_function(lambda: self.health.ready and self.bus.trouble is None)
        self.presence = Presence(self.bus, self.record)

    def set_ready(self, summary: BootSummary | None = None) -> None:
        """Say that this process does its work now."""
        self.summary = summary or self.summary or BootSummary(service=self.service, hosted=1)
        self._set(True, None)

    def set_not_ready(self, reason: str) -> None:
        """Say that this process cannot do its work now, and why."""
        self._set(False, reason)

    def _set(self, ready: bool, reason: str | None) -> None:
        if self.health.ready == ready and self.health.reason == reason:
            return
        self.health.ready, self.health.reason = ready, reason
        log.info("ready" if ready else "not_ready", reason=reason)
        self.presence.changed()

    def did(self, what: str) -> None:
        """Remember what this process last did, for people to see."""
        self._activity = (what, datetime.now(UTC))

    def record(self) -> PresenceRecord:
        """Return what this process says of itself now."""
        activity, at = self._activity or self._handled() or (None, None)
        return PresenceRecord(
            service=self.service,
            instance=self.settings.instance,
            boot=self.boot,
            pid=os.getpid(),
            host=socket.gethostname(),
            ready=self.health.ready,
            since=self.since,
            restarts=self.settings.restarts,
            last_activity=activity,
            last_activity_at=at,
            not_ready_because=self.health.reason,
            metrics_port=self.metrics_port,
            leaving=self.leaving,
            ended=self.ended,
            summary=self.summary,
            stages={
                name: times for name, stage in self.stages.items() if (times := stage.times()) is not None
            },
            outcomes=self.outcomes(),
        )

    def _handled(self) -> tuple[str, datetime] | None:
        """Return which message was handled last, for services that say nothing better of themselves."""
        last = self.metrics.last_handled
        return (f"handled {last[0]}", datetime.fromtimestamp(last[1], UTC)) if last is not None else None


Lifespan = Callable[[Process], AbstractAsyncContextManager[None]]
"""Brings a service up, yields while it works, drains it."""


@dataclass
class Stop:
    """Whether the process is asked to stop, and whether it has work to finish then."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    working: bool = False


def main(service: str, lifespan: Lifespan, env: Mapping[str, str] | None = None) -> NoReturn:
    """Run a service until SIGTERM or Ctrl-C and exit."""
    environment = os.environ if env is None else env
    try:
        cognition_settings = cognition_reader(environment)
        cognition = read_cognition(cognition_settings)
        settings = read_process(process_reader(environment), service)
        tracing = read_tracing(tracing_reader(environment))
    except SettingError as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - logs are not configured yet
        sys.exit(EX_CONFIG)
    _collect_garbage_seldom()
    logs.configure(
        log_format=settings.log_format, level=settings.log_level, service=service, instance=settings.instance
    )
    for stranger in (*cognition_settings.unknown(), *tracing.unheeded):
        log.warning("unknown_setting", text=stranger)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    _end(runner.run(_live(service, settings, cognition, tracing, lifespan)))


async def _live(
    service: str,
    settings: ProcessSettings,
    cognition: CognitionSettings,
    tracing: TracingSettings,
    lifespan: Lifespan,
) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.asked.set)
    serving = asyncio.create_task(_serve(service, settings, cognition, tracing, lifespan, stop), name="serve")
    async with beside(stop.asked.wait(), "stop-signal") as stopped:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await _finish(serving, settings.drain_ms / 1000 if stop.working else 0)
    return _exit_status(service, serving)


async def _finish(serving: asyncio.Task[None], seconds: float) -> None:
    """Wait for the drain, and cancel what outlasts it; a boot is cancelled at once."""
    if seconds:
        await asyncio.wait([serving], timeout=seconds)
    if not serving.done():
        log.warning("drain_timed_out" if seconds else "stopped_while_starting")
        serving.cancel()
        await asyncio.wait([serving], timeout=CANCELLING_S)


def _exit_status(service: str, serving: asyncio.Task[None]) -> int:
    if not serving.done() or serving.cancelled():
        return 0
    error = serving.exception()
    if error is None:
        log.info("stopped")
        return 0
    status = 1
    for leaf in leaves(error):
        if isinstance(leaf, ConfigurationError | SettingError):
            print(plain(f"{service}: {leaf}"), file=sys.stderr)  # noqa: T201 - the one line, however logs are set
            status = EX_CONFIG
        elif isinstance(leaf, BusError | Fatal):
            log.error("process_ends", error=str(leaf))
        elif (task := told_of(leaf)) is not None:
            log.error("process_crashed", task=task, error=f"{type(leaf).__name__}: {leaf}")
        else:
            log.error("process_crashed", exc_info=leaf)
    return status


async def _serve(
    service: str,
    settings: ProcessSettings,
    cognition: CognitionSettings,
    tracing: TracingSettings,
    lifespan: Lifespan,
    stop: Stop,
) -> None:
    metrics = ProcessMetrics(service, settings.instance, own_version())
    heard = Crashes(metrics.registry)
    watch_tasks(heard.task_failed)
    health = Health(beat=time.monotonic())
    tracer = _tracer(tracing, service, settings.instance, metrics)
    server = _listen(settings, metrics, health)
    try:
        async with AsyncExitStack() as stack:
            async with Background() as tasks:
                tasks.create_task(_beat(health, server), name="beat")
                name = f"perpetua-{settings.instance}"
                bus = await stack.enter_async_context(connect(settings.nats, name, metrics))
                bus.tracer = tracer
                await wait_until_provisioned(bus)
            process = Process(
                service,
                settings,
                cognition,
                bus,
                metrics,
                secrets.token_hex(8),
                datetime.now(UTC),
                health,
                server.port,
            )
            async with told(bus, process.record), heard.heard(bus):
                await _work(process, server, lifespan, stop)
    finally:
        if tracer is not None:
            await _export_last(tracer)
        server.close()


def _tracer(settings: TracingSettings, service: str, instance: str, metrics: ProcessMetrics) -> Tracer | None:
    """Return what makes traces; None, and nothing of OpenTelemetry is loaded, where nothing collects them."""
    if settings.endpoint is None:
        return None
    from libs.tracing.otel import open_tracer

    try:
        return open_tracer(settings, service, instance, own_version(), metrics.spans_dropped.inc)
    except ValueError as error:
        raise ConfigurationError(f"OpenTelemetry does not take its settings: {error}") from error


async def _export_last(tracer: Tracer) -> None:
    """Export what has ended, as far as there is time: the process ends without waiting for threads."""
    closing = asyncio.get_running_loop().run_in_executor(None, tracer.close)
    await asyncio.wait([closing], timeout=_EXPORT_WITHIN_S)


async def _work(process: Process, server: HealthServer, lifespan: Lifespan, stop: Stop) -> None:
    """Live until asked to stop. What others see of this process ends last, with what has ended it."""
    async with Background() as outer:
        presence = outer.create_task(process.presence.run(), name="presence")
        try:
            async with Background() as tasks:
                tasks.create_task(_beat(process.health, server), name="beat")
                tasks.create_task(_until_lost(process.bus), name="connection")
                async with lifespan(process):
                    stop.working = True
                    await stop.asked.wait()
                    log.info("draining")
                    process.leaving = True
                    process.set_not_ready("draining")
                    process.presence.changed()
        except Exception as error:
            process.leaving, process.ended = True, why(error)[1]
            process.set_not_ready(f"it ends: {process.ended}")
            raise
        presence.cancel()
        await asyncio.wait([presence])


def _listen(settings: ProcessSettings, metrics: ProcessMetrics, health: Health) -> HealthServer:
    try:
        return HealthServer(settings.metrics_host, settings.metrics_port, metrics.registry, health)
    except OSError as error:
        place = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigurationError(
            f"cannot serve metrics on {place}: {error.strerror}; set PERPETUA_METRICS_HOST to an address of "
            "this machine, and PERPETUA_METRICS_PORT to a free port"
        ) from error


async def _beat(health: Health, server: HealthServer) -> None:
    while True:
        health.beat = time.monotonic()
        if not server.serves:
            raise RuntimeError("the thread that serves /metrics, /livez and /readyz has ended")
        await asyncio.sleep(_BEAT_S)


async def _until_lost(bus: Bus) -> None:
    await bus.lost


def _end(status: int) -> NoReturn:
    """End the process now, its work closed.

    Closing the loop would wait for the resolver where the broker's name was being looked up as this ended:
    for 20 s and more, longer than anybody gives a process that is to stop.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _collect_garbage_seldom() -> None:
    """Look for cyclic garbage less often, and not among what was imported.

    Messages are trees, which need no collector; looking through them all took a fifth of a busy process's
    time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


_version = cache(version)
"""Reads and parses the package's metadata, which is not to be done twice a second."""


def own_version() -> str:
    """Return this project's version."""
    try:
        return _version("perpetua")
    except PackageNotFoundError:
        return "0.0.0"


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of this project and of packages, for a boot summary."""
    found = {"python": platform.python_version(), "perpetua": own_version()}
    return found | {name: _version(name) for name in packages}
