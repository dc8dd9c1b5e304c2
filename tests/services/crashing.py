"""A service in this process, as `libs.runtime.process` runs it, and a way to crash one of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from libs.runtime import process as runtime
from libs.runtime.crashes import kind_of
from libs.runtime.process import Process
from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import process_reader, read_process
from libs.settings.tracing import TracingSettings
from tests.support.eventually import eventually

ROOT = Path(__file__).parent.parent.parent


CRASHING = "test.crashing"
"""Whoever receives a message on this subject fails by it."""


class Boom(Exception):
    """Nobody foresees it."""


class Running:
    """A service while it runs. `ended` is the exit status that its process would have had."""

    def __init__(self, service: str, url: str, **settings: str) -> None:
        self.service = service
        self.process: Process | None = None
        env = {
            "PERPETUA_NATS_URL": url,
            "PERPETUA_INSTANCE": f"{service}-x",
            "PERPETUA_GATEWAY_PORT": "0",
            "CODETETHER_COGNITION_THINKER_ENABLED": "false",
        } | settings
        own, cognition = read_process(process_reader(env), service), read_cognition(cognition_reader(env))
        lifespan = import_module(f"services.{service}.service").lifespan
        self._others = asyncio.all_tasks()

        @asynccontextmanager
        async def seen(process: Process) -> AsyncIterator[None]:
            async with lifespan(process):
                await process.bus.subscribe(CRASHING, _fail)
                await process.bus.client.flush(timeout=60)  # it is in force
                self.process = process
                yield

        self.ended = asyncio.create_task(
            runtime._live(service, own, cognition, TracingSettings(), seen), name="live"
        )

    async def until_ready(self) -> Running:
        await eventually(lambda: self.ended.done() or self.process is not None, 30, "the service")
        assert not self.ended.done(), self.ended.result()
        return self

    def tasks(self) -> dict[str, asyncio.Task[Any]]:
        """Its tasks by name, but for those of libraries."""
        return {task.get_name(): task for task in self._left() if is_ours(task)}

    def _left(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - self._others - {self.ended}

    def kinds(self) -> set[str]:
        """Its tasks, those of all shards by one name."""
        return {kind_of(name) for name in self.tasks()}

    def can_crash(self, kind: str) -> bool:
        """Whether a task of this kind waits for something."""
        return self._waiting(kind) is not None

    def crash(self, kind: str, error: Exception) -> str:
        """Have what a task waits for fail, as if it were that; return its name."""
        found = self._waiting(kind)
        assert found is not None, f"{kind} waits for nothing"
        found[1].set_exception(error)
        return found[0]

    def _waiting(self, kind: str) -> tuple[str, asyncio.Future[Any]] | None:
        for name, task in sorted(self.tasks().items()):
            waiter = getattr(task, "_fut_waiter", None)
            if name in (kind, f"{kind}-5") and waiter is not None and not waiter.done():
                return name, waiter
        return None

    def counted(self, name: str, **labels: str) -> float:
        assert self.process is not None
        return self.process.metrics.registry.get_sample_value(name, labels) or 0.0

    async def close(self) -> None:
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)


async def _fail(message: Msg) -> None:
    raise Boom(message.data.decode())


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a task is ours: it was given a name, or what it runs is."""
    code = task.get_coro().cr_code  # type: ignore[union-attr]
    written_here = Path(code.co_filename).is_relative_to(ROOT) and ".venv" not in code.co_filename
    return written_here or not task.get_name().startswith("Task-")
