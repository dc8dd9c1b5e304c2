"""Bringing thoughts to their shard's owner, again and again until they are settled."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import nats.errors
import structlog

from libs.bus.connection import ERROR_CODE, Bus
from libs.concurrency.waiting import BackOff
from libs.contracts import subjects
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import RECORD_BYTES
from libs.contracts.work import Chunk, Grant, GrantRequest, Results, StillThinking, WorkItem

log = structlog.get_logger("results")

_encode = msgspec.json.Encoder().encode
_decode_grant = msgspec.json.Decoder(Grant).decode

ANSWER_WITHIN_S = 1.0
_NOBODY_S = 0.25
_NOBODY_MOST_S = 1.0


class Pause(Protocol):
    """What is done until an owner is asked once more."""

    async def __call__(self, seconds: float, *, there: bool) -> None:
        """Wait for so long, at least; `there`: the owner has answered, and can do nothing now."""


async def rest(seconds: float, *, there: bool) -> None:
    """Wait for so long."""
    await asyncio.sleep(seconds)


class Owners:
    """The owners of shards, as a thinker talks to them. While one is away, a call waits for it by `pause`."""

    def __init__(self, bus: Bus, instance: str) -> None:
        self._bus = bus
        self._instance = instance

    async def grant(
        self, chunk: Chunk, sequence: int, deliveries: int, *, reads: bool, pause: Pause = rest
    ) -> Grant:
        """Return what of a chunk is still wanted; without charters and contexts where nothing reads them."""
        items: list[WorkItem] = []
        traces: dict[str, str] = {}
        begin = 0
        while True:
            request = GrantRequest(
                chunk=chunk.id,
                shard=chunk.shard,
                sequence=sequence,
                deliveries=deliveries,
                thinker=self._instance,
                reads=reads,
                begin=begin,
            )
            granted = await self._granted(request, pause)
            items += granted.items
            traces |= granted.traces
            begin = granted.next
            if not begin:
                return Grant(items=items, traces=traces)

    async def _granted(self, request: GrantRequest, pause: Pause) -> Grant:
        back_off = BackOff(_NOBODY_S, _NOBODY_MOST_S)
        while True:
            answer = await self._ask(subjects.grant(request.shard), _encode(request), pause)
            try:
                return _decode_grant(answer)
            except msgspec.DecodeError as error:  # a stranger's; the owner answers, too
                log.warning("grant_not_read", shard=request.shard, error=str(error))
                await pause(back_off.next(), there=True)

    async def still_thinking(self, chunk: Chunk) -> None:
        """Let the owner know that a chunk is not forgotten: it asks nothing and waits for nothing."""
        await self._bus.note(
            subjects.thinking(chunk.shard), StillThinking(chunk=chunk.id, thinker=self._instance)
        )

    async def settle(self, chunk: Chunk, thoughts: list[ThoughtEntry], pause: Pause = rest) -> None:
        """Return once every thought is stored or stale."""
        for part in _parts(thoughts):
            results = Results(chunk=chunk.id, shard=chunk.shard, thinker=self._instance, thoughts=part)
            await self._ask(subjects.result(chunk.shard), _encode(results), pause)

    async def _ask(self, subject: str, payload: bytes, pause: Pause) -> bytes:
        back_off = BackOff(_NOBODY_S, _NOBODY_MOST_S)
        while True:
            if not self._bus.connected:  # repeats would only fill the client's buffer
                await pause(back_off.next(), there=False)
                continue
            try:
                message = await self._bus.client.request(subject, payload, timeout=ANSWER_WITHIN_S)
            except nats.errors.NoRespondersError:
                await pause(back_off.next(), there=False)
            except (nats.errors.Error, TimeoutError) as error:
                log.debug("owner_silent", subject=subject, error=str(error))
                await pause(0.0, there=False)
            else:
                if ERROR_CODE not in (message.headers or {}):
                    return bytes(message.data)
                await pause(back_off.next(), there=True)


def _parts(thoughts: list[ThoughtEntry]) -> list[list[ThoughtEntry]]:
    """Return thoughts in parts that fit a message."""
    parts: list[list[ThoughtEntry]] = []
    weight = RECORD_BYTES
    for thought in thoughts:
        size = sum(len(memoryview(event)) for _, event in thought.events)
        if weight + size > RECORD_BYTES:
            parts.append([])
            weight = 0
        parts[-1].append(thought)
        weight += size
    return parts
