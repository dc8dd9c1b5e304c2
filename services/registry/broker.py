"""What the broker holds, as metrics: every stream and the work queue, looked at when somebody asks.

Here because the registry is light, and there is one of it or two; of two, take the maximum.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, NoAnswer
from libs.contracts import streams
from libs.contracts.streams import StreamBounds

FRESH_S = 2.0
"""What was seen so many seconds ago at most is not looked at again."""

_WITHIN_S = 3.0
_WAITS_S = 2.0
"""For so long, in seconds, who reads the metrics waits for a look; then it gets what was seen before."""


class BrokerMetrics(Collector):
    """Metrics of the streams, by name. Made in the event loop, and read by any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._wanted = asyncio.Event()
        self._waiting: list[threading.Event] = []
        self._seen_at = float("-inf")
        self._seen = CollectorRegistry()

        def by_stream(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["stream"], registry=self._seen)

        self._answers = by_stream("perpetua_stream_answers", "1 while a stream's leader answers, else 0.")
        self._messages = by_stream("perpetua_stream_messages", "Messages that a stream holds.")
        self._limit = by_stream("perpetua_stream_messages_limit", "The most it may hold; 0: no limit.")
        self._bytes = by_stream("perpetua_stream_bytes", "Bytes that it holds.")
        self._age = by_stream(
            "perpetua_stream_oldest_age_seconds", "Age of its oldest message; 0 where empty."
        )
        self._pending = Gauge(
            "perpetua_work_pending", "Chunks of work that no thinker has taken.", registry=self._seen
        )
        self._unacknowledged = Gauge(
            "perpetua_work_unacknowledged", "Chunks of work that thinkers have in hand.", registry=self._seen
        )
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Yield what the broker holds, as of a moment ago where it answers in time."""
        if threading.get_ident() != self._loop_thread and time.monotonic() - self._seen_at > FRESH_S:
            self._look_now()
        yield from self._seen.collect()

    def _look_now(self) -> None:
        """Have the event loop look, and wait for that."""
        done = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._want, done)
        except RuntimeError:  # the loop has ended
            return
        done.wait(_WAITS_S)

    def _want(self, done: threading.Event) -> None:
        self._waiting.append(done)
        self._wanted.set()

    async def wanted(self) -> None:
        """Return once somebody wants to know."""
        await self._wanted.wait()
        self._wanted.clear()

    def looked(self) -> None:
        """Let those go on who have waited."""
        self._seen_at = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.set()

    def stream(self, name: str, info: dict[str, Any], now: datetime) -> None:
        """Show what `STREAM.INFO` says."""
        state = info["state"]
        self._answers.labels(name).set(1)
        self._messages.labels(name).set(state["messages"])
        self._limit.labels(name).set(max(info["config"]["max_msgs"], 0))
        self._bytes.labels(name).set(state["bytes"])
        first = datetime.fromisoformat(state["first_ts"]) if state["messages"] else now
        self._age.labels(name).set(max((now - first).total_seconds(), 0.0))

    def silent(self, name: str) -> None:
        """Show that a stream does not answer; what it held is shown as it was."""
        self._answers.labels(name).set(0)

    def work(self, info: dict[str, Any]) -> None:
        """Show what `CONSUMER.INFO` says of the work queue."""
        self._pending.set(info["num_pending"])
        self._unacknowledged.set(info["num_ack_pending"])


async def watch_broker(bus: Bus, metrics: BrokerMetrics) -> None:
    """Look at everything whenever somebody wants to know, until cancelled."""
    names = [spec.name for spec in streams.specs(StreamBounds())]
    while True:
        await metrics.wanted()
        await asyncio.gather(*(_look(bus, metrics, name) for name in names), _look_at_work(bus, metrics))
        metrics.looked()


async def _look(bus: Bus, metrics: BrokerMetrics, name: str) -> None:
    try:
        info = await bus.api(f"STREAM.INFO.{name}", timeout=_WITHIN_S)
    except (NoAnswer, ApiRefused):
        return metrics.silent(name)
    return metrics.stream(name, info, datetime.now(UTC))


async def _look_at_work(bus: Bus, metrics: BrokerMetrics) -> None:
    try:
        metrics.work(await bus.api(f"CONSUMER.INFO.{streams.THINK}.{streams.THINKERS}", timeout=_WITHIN_S))
    except (NoAnswer, ApiRefused):
        return
