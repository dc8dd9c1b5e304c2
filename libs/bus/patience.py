"""Trying again while the broker does not answer, and saying so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import NoAnswer
from libs.concurrency.waiting import BackOff

log = structlog.get_logger("bus")

T = TypeVar("T")

_FIRST_S = 0.05
_MOST_S = 0.5
_RECONNECTED_WITHIN_S = 1.0
_SAID_AFTER_S = 2.0
_SAY_EVERY_S = 10.0


class Patience:
    """The pauses between the tries of one call.

    They grow from 0.05 to 0.5 s, and last until the reconnect while the connection is lost. A call that is
    not answered for two seconds is logged, and named by `/readyz`, until it is.
    """

    def __init__(self, bus: Bus, what: str) -> None:
        self._bus = bus
        self._what = what
        self._back_off = BackOff(_FIRST_S, _MOST_S)
        self._began = self._say_at = 0.0

    def __enter__(self) -> Patience:
        self._began = asyncio.get_running_loop().time()
        self._say_at = self._began + _SAID_AFTER_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.waiting_for.discard(self._what)

    async def pause(self, error: NoAnswer) -> None:
        """Wait before the next try."""
        now = asyncio.get_running_loop().time()
        if now >= self._say_at and self._bus.connected:
            self._say_at = now + _SAY_EVERY_S
            self._bus.waiting_for.add(self._what)
            log.warning(
                "broker_does_not_answer",
                waiting_for=self._what,
                seconds=round(now - self._began),
                error=str(error),
                cure="see the broker's log: without a JetStream leader (a lost quorum, a full disk) it waits",
            )
        if self._bus.connected:
            await asyncio.sleep(self._back_off.next())
        else:
            await self._bus.connected_within(_RECONNECTED_WITHIN_S)


async def until_answered(bus: Bus, what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until it is answered."""
    with Patience(bus, what) as patience:
        while True:
            try:
                return await call()
            except NoAnswer as error:
                await patience.pause(error)
