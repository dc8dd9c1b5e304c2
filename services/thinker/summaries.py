"""Summing up what a swarm's personas remember, for a compressor [A18].

Two at once at most: thoughts come first. Whoever has no room says so at once, and is asked again, or another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

import msgspec
import structlog
from msgspec import Struct

from libs.bus.endpoints import Request
from libs.bus.loop import Postpone
from libs.cognition.answer import Answer, failed
from libs.contracts.rollups import SharedSnapshot, SummaryReply, SummaryRequest
from services.thinker.allocation import leading
from services.thinker.backends.base import Backend
from services.thinker.budget import TEMPLATE_TOKENS
from services.thinker.metrics import ThinkerMetrics
from services.thinker.prompt import Prompt

log = structlog.get_logger("summaries")

AT_ONCE = 2
NO_ROOM = "not one snapshot has room in the model's window"

SYSTEM = (
    "You keep the memory of a swarm of personas that think all the time and act on nothing. You are told "
    "what some of them have lately retained. Write what the swarm as a whole should retain: short, concrete, "
    "nothing but what stands there, and honest about where they differ. Write plain text without any markup."
)
_HEAD = "what personas of the swarm retain, oldest first:"
_ASK = "Sum it up: what several of them say, where they differ, and facts to retain."

_encode = msgspec.json.Encoder().encode


class Fitting(Struct, frozen=True):
    """A prompt within the model's window."""

    prompt: Prompt
    told: int
    """How many snapshots it tells, the newest."""


class Summaries:
    """Answers requests for summaries with whatever thinks now."""

    def __init__(self, backend: Callable[[], Backend], metrics: ThinkerMetrics) -> None:
        self._backend = backend
        self._metrics = metrics
        self._under_way = 0

    async def sum_up(self, message: SummaryRequest, _: Request) -> bytes:
        """Answer within the time that is given. Raises `Postpone` where two are under way."""
        if self._under_way >= AT_ONCE:
            raise Postpone(f"{AT_ONCE} summaries are under way")
        self._under_way += 1
        try:
            reply = await self._made(message)
        finally:
            self._under_way -= 1
        return _encode(reply)

    async def _made(self, message: SummaryRequest) -> SummaryReply:
        backend = self._backend()
        fitting = fit(message.snapshots, backend)
        answer = Answer(error=NO_ROOM, asked=False)
        if fitting.told:
            answer = await _answered(backend, fitting.prompt, message.within_ms / 1000)
        self._metrics.summed_up(answer)
        if answer.failure is not None:
            log.info("no_summary", swarm=message.swarm_id, error=answer.failure)
        return SummaryReply(
            text=answer.text if answer.by_model else None,
            told=fitting.told,
            model=answer.model if answer.by_model else None,
            usage=answer.usage,
            error=answer.failure,
            asked=answer.asked,
            cpu_ms=answer.thinking_ms,
        )


def fit(snapshots: list[SharedSnapshot], backend: Backend) -> Fitting:
    """Return a prompt of the newest snapshots that the model's window has room for."""
    lines = [_line(snapshot) for snapshot in snapshots]
    budget, count = backend.budget, backend.count
    if budget is None:
        return Fitting(_prompt(lines), len(lines))
    frame = count(SYSTEM) + count(_prompt([]).user) + TEMPLATE_TOKENS
    room = min(budget.context, budget.window - budget.asked - frame)
    told = len(leading([count(f"{line}\n") for line in reversed(lines)], room))
    return Fitting(_prompt(lines[len(lines) - told :]), told)


async def _answered(backend: Backend, prompt: Prompt, within: float) -> Answer:
    began = perf_counter()
    try:
        async with asyncio.timeout(within):
            return await backend.answer(prompt)
    except TimeoutError:
        return failed(f"no summary within {within:g} s", round((perf_counter() - began) * 1000))


def _prompt(lines: list[str]) -> Prompt:
    return Prompt(SYSTEM, "\n".join([_HEAD, *lines, _ASK]))


def _line(snapshot: SharedSnapshot) -> str:
    said = _encode(snapshot.summary).decode()
    return f"- {_encode(snapshot.name).decode()}, {_encode(snapshot.role).decode()}: {said}"
