"""The thinker's composition and lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from libs.bus.endpoints import Gate, listening
from libs.bus.loop import MessageLoop
from libs.bus.queue import Puller, Work
from libs.concurrency.tasks import Background
from libs.contracts import streams, subjects
from libs.contracts.presence import BootSummary
from libs.contracts.rollups import SummaryRequest
from libs.contracts.work import Chunk
from libs.runtime.process import Process, versions
from services.thinker.backends.base import Backend
from services.thinker.backends.choosing import choose, is_provisional
from services.thinker.backends.honouring import check
from services.thinker.backends.telemetry import Batching
from services.thinker.backends.watching import Watched
from services.thinker.capture import CaptureMetrics, Captures
from services.thinker.endpoint_health import EndpointHealth, EndpointMetrics
from services.thinker.looking import Looking
from services.thinker.metrics import ThinkerMetrics
from services.thinker.results import Owners
from services.thinker.summaries import Summaries
from services.thinker.thinking import Thinking

log = structlog.get_logger("thinker")

_CHUNKS_AT_ONCE = 1024
_SUMMERS = "summaries"
"""The queue group of thinkers that sum up."""

_HAND_BACK_S = 2.0
"""How long before the drain ends what is still being thought is handed back."""


class Thinker:
    """The backend of a thinker, which `auto` may exchange, and the work it takes in."""

    def __init__(self, process: Process, backend: Backend) -> None:
        self.backend = backend
        self.process = process
        self.metrics = ThinkerMetrics(process.metrics.registry, lambda: self.thinking.room.taken)
        process.stages = self.metrics.stages()
        self.captures = Captures(
            process.bus,
            process.settings.capture,
            process.settings.instance,
            process.cognition.thinker,
            CaptureMetrics(process.metrics.registry),
            self.say,
        )
        self._endpoint = EndpointHealth(EndpointMetrics(process.metrics.registry), self.say)
        self.thinking = Thinking(
            Owners(process.bus, process.settings.instance),
            lambda: self.backend,
            self.metrics,
            process.did,
            self.captures,
            process.bus.tracer,
            process.settings.novelty_threshold,
        )
        self._held: dict[int, Work] = {}
        self._summaries = Summaries(lambda: self.backend, self.metrics)
        self._looking = Looking(process.cognition.thinker, _models(process), self.say)
        self._has_model = asyncio.Event()
        self.gate = Gate(_CHUNKS_AT_ONCE)
        self.loop = MessageLoop(
            "think", msgspec.json.Decoder(Chunk).decode, self.thinking.handle, process.metrics
        )
        self.puller = Puller(process.bus, streams.THINK, streams.THINKERS, self._wanted, self._receive)
        self.thinking.room.changed = self.puller.room_changed

    async def look_again(self) -> None:
        """While there is nothing to think with, see whether there is by now."""
        if is_provisional(self.process.cognition.thinker, self.backend):
            self.backend = await self._looking.found()
            self.take()
            self.say()

    async def sum_up(self) -> None:
        """Sum up what swarms remember, for compressors, from when there is a model to do it."""
        await self._has_model.wait()
        loop = MessageLoop(
            "summaries",
            msgspec.json.Decoder(SummaryRequest).decode,
            self._summaries.sum_up,
            self.process.metrics,
        )
        async with (
            Gate() as gate,
            listening(self.process.bus, subjects.SUMMARIES, loop, gate, queue=_SUMMERS),
        ):
            await asyncio.Event().wait()

    def take(self) -> None:
        """Think with the backend from now on. Raises `ConfigurationError` for what it cannot honour."""
        log.info("thinks_with", backend=self.backend.description)
        check(self.process.cognition.thinker, self.backend)
        if self.backend.always is None:
            self._has_model.set()
        if isinstance(self.backend, Batching):
            self.backend.telemetry = self.metrics
        if isinstance(self.backend, Watched):
            self.backend.watcher = self._endpoint

    def say(self) -> None:
        """Tell everybody what thinks now, and what is wrong with it."""
        troubles = [self.captures.trouble(), self._looking.trouble]
        if isinstance(self.backend, Watched):
            troubles.append(self.backend.trouble())
        self.process.summary = _summary(self.backend, [trouble for trouble in troubles if trouble])
        self.process.presence.changed()

    def _wanted(self) -> int:
        """Return how many more chunks there is room for: twice what can be under way, by their usual size."""
        wanted = self.thinking.sizes.chunks(self.thinking.room.left)
        return max(0, min(wanted, _CHUNKS_AT_ONCE - self.gate.admitted))

    async def _receive(self, work: Work) -> None:
        """Take work in. What is in hand already, and delivered again after an outage, goes on."""
        if (held := self._held.get(work.sequence)) is not None:
            held.taken_again(work)
            return
        self._held[work.sequence] = work
        await self.gate.admit(self._process(work))

    async def _process(self, work: Work) -> None:
        try:
            await self.loop.process(work)
        finally:
            del self._held[work.sequence]
            self.puller.room_changed()


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Load and warm the backend, pull work, and only then be ready [H1].

    Drain by finishing, then handing back, what is in hand.
    """
    backend = await choose(process.cognition.thinker, _models(process))
    thinker = Thinker(process, backend)
    try:
        thinker.take()
        async with thinker.gate, Background() as tasks:
            pulling = tasks.create_task(thinker.puller.run(), name="pull")
            tasks.create_task(thinker.look_again(), name="look-again")
            tasks.create_task(thinker.captures.run(), name="captures")
            tasks.create_task(thinker.sum_up(), name="summaries")
            tasks.create_task(thinker.thinking.keeping.run(), name="keep")
            await thinker.puller.bound.wait()
            thinker.say()
            process.set_ready()
            yield
            pulling.cancel()
            await _finish(process, thinker)
    finally:
        await thinker.backend.close()


async def _finish(process: Process, thinker: Thinker) -> None:
    """Let what is in hand finish while there is time, then give it back."""
    patience = max(process.settings.drain_ms / 1000 - _HAND_BACK_S, 0.0)
    if not await thinker.gate.idle(patience):
        log.info("handing_back", thoughts=thinker.thinking.room.taken)
        await thinker.thinking.keeping.hand_back()


def _summary(backend: Backend, troubles: list[str]) -> BootSummary:
    return BootSummary(
        service="thinker",
        hosted=1,
        device=getattr(backend, "device", None),
        compute_type=getattr(backend, "compute_type", None),
        model=backend.model,
        thinks_with=backend.description,
        troubles=troubles,
        versions=versions("nats-py", "msgspec", "ctranslate2", "transformers"),
        circuit=backend.circuit() if isinstance(backend, Watched) else None,
    )


def _models(process: Process) -> Path:
    """Return where pulled models are kept."""
    return Path(process.settings.data_dir) / "models"
