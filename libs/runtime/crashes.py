"""What ends a task or a process by an error: logged, counted, published [H7].

The counters of a process end with it, so each process counts what the others say of themselves as they end.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
import structlog
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry, Counter

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, BusError
from libs.concurrency.tasks import TaskFailed, leaves, told_of
from libs.contracts import subjects
from libs.contracts.permissions import SERVICES
from libs.contracts.presence import Crash, PresenceRecord
from libs.runtime.errors import ConfigurationError
from libs.settings.reader import SettingError

log = structlog.get_logger("crashes")

_NUMBER = re.compile(r"-\d+$")
_decode = msgspec.json.Decoder(Crash).decode


class Crashes:
    """Counts what has ended by an error, here and elsewhere."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tasks = Counter(
            "perpetua_tasks_failed_total",
            "Tasks that an error has ended, by cause: `bus` and `settings` are foreseen, `crash` is not.",
            ["task", "cause"],
            registry=registry,
        )
        self._processes = Counter(
            "perpetua_process_crashes_total",
            "Processes that an error has ended, as they said of themselves, by service.",
            ["of"],
            registry=registry,
        )
        for service in SERVICES:  # from zero on: `increase` does not see a series that begins with 1
            self._processes.labels(service)

    def task_failed(self, failed: TaskFailed) -> None:
        """Count a task that has failed, and say what nobody foresaw."""
        cause = _cause(failed.error)
        self._tasks.labels(kind_of(failed.name), cause).inc()
        if cause == "crash":
            log.error("task_crashed", task=failed.name, exc_info=failed.error)
        else:
            log.debug("task_ended", task=failed.name, error=str(failed.error))

    @asynccontextmanager
    async def heard(self, bus: Bus) -> AsyncIterator[None]:
        """Count the processes that say that they end, while the context is open."""

        async def receive(message: Msg) -> None:
            with suppress(*UNREADABLE):  # a stranger's
                crash = _decode(message.data)
                if crash.service in SERVICES:
                    self._processes.labels(crash.service).inc()

        async with bus.subscribed(subjects.CRASHED, receive):
            yield


@asynccontextmanager
async def told(bus: Bus, current: Callable[[], PresenceRecord]) -> AsyncIterator[None]:
    """Tell everybody of an error that ends the context. Nobody hears it while the broker is away."""
    try:
        yield
    except Exception as error:
        task, text = why(error)
        who = current()
        crash = Crash(
            service=who.service,
            instance=who.instance,
            boot=who.boot,
            task=task,
            error=text,
            at=datetime.now(UTC),
        )
        await bus.note(subjects.crashed(who.service, who.instance), crash)
        raise


def kind_of(task: str) -> str:
    """Return a task's name without what tells it from its like: a number, or a subject."""
    return _NUMBER.sub("", task.partition(" ")[0])


def why(error: BaseException) -> tuple[str | None, str]:
    """Return which task has ended a process, and why, for people."""
    first = next(leaves(error))
    text = str(first) if _cause(first) != "crash" else f"{type(first).__name__}: {first}"
    return told_of(first), text


def _cause(error: BaseException) -> str:
    if isinstance(error, BusError):
        return "bus"
    return "settings" if isinstance(error, ConfigurationError | SettingError) else "crash"
