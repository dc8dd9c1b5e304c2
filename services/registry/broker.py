"""What the broker holds, as metrics: every stream and the work queue, looked at every few seconds.

Here because the registry is light, and there is one of it or two; of two, take the maximum.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, NoAnswer
from libs.contracts import streams
from libs.contracts.streams import StreamBounds

LOOK_S = 5.0
_WITHIN_S = 3.0


class BrokerMetrics:
    """Metrics of the streams, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def by_stream(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["stream"], registry=registry)

        self._answers = by_stream("perpetua_stream_answers", "1 while a stream's leader answers, else 0.")
        self._messages = by_stream("perpetua_stream_messages", "Messages that a stream holds.")
        self._limit = by_stream("perpetua_stream_messages_limit", "The most it may hold; 0: no limit.")
        self._bytes = by_stream("perpetua_stream_bytes", "Bytes that it holds.")
        self._age = by_stream(
            "perpetua_stream_oldest_age_seconds", "Age of its oldest message; 0 where empty."
        )
        self._pending = Gauge(
            "perpetua_work_pending", "Chunks of work that no thinker has taken.", registry=registry
        )
        self._unacknowledged = Gauge(
            "perpetua_work_unacknowledged", "Chunks of work that thinkers have in hand.", registry=registry
        )

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
    """Look at everything again and again."""
    names = [spec.name for spec in streams.specs(StreamBounds())]
    while True:
        await asyncio.gather(*(_look(bus, metrics, name) for name in names), _look_at_work(bus, metrics))
        await asyncio.sleep(LOOK_S)


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
