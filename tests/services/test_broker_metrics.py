"""What the registry tells of the broker: looked at when somebody reads the metrics, and only then."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.contracts import streams
from libs.contracts.streams import StreamBounds
from services.registry import broker
from services.registry.broker import BrokerMetrics, watch_broker
from tests.bus.support import running

HELD = {"stream": streams.PERSONAS}


@pytest.fixture
def asked(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the broker has been asked."""
    subjects: list[str] = []
    real = bus.api

    async def api(subject: str, *args: Any, **options: Any) -> dict[str, Any]:
        subjects.append(subject)
        return await real(subject, *args, **options)

    monkeypatch.setattr(bus, "api", api)
    return subjects


async def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Read as the thread of `/metrics` does."""
    return await asyncio.to_thread(registry.get_sample_value, name, labels)


async def test_the_broker_is_asked_when_somebody_reads_and_not_again_at_once(
    bus: Bus, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "FRESH_S", 60.0)
    monkeypatch.setattr(broker, "_WAITS_S", 30.0)
    registry = CollectorRegistry()
    async with running(watch_broker(bus, BrokerMetrics(registry))):
        await asyncio.sleep(0.2)
        assert asked == [], "nobody wants to know"
        await bus.publish("$KV.personas.p", b"x")
        assert await read(registry, "perpetua_stream_messages", **HELD) == 1
        every = len(list(streams.specs(StreamBounds()))) + 1
        assert len(asked) == every
        await bus.publish("$KV.personas.q", b"x")
        assert await read(registry, "perpetua_stream_messages", **HELD) == 1
        assert await read(registry, "perpetua_work_pending") == 0
        assert len(asked) == every, "it was a moment ago"
        monkeypatch.setattr(broker, "FRESH_S", 0.0)
        assert await read(registry, "perpetua_stream_messages", **HELD) == 2


async def test_who_reads_while_the_broker_is_silent_gets_what_was_seen_before(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_WAITS_S", 30.0)
    registry = CollectorRegistry()
    metrics = BrokerMetrics(registry)
    async with running(watch_broker(bus, metrics)):
        assert await read(registry, "perpetua_stream_answers", **HELD) == 1
    monkeypatch.setattr(broker, "FRESH_S", 0.0)
    monkeypatch.setattr(broker, "_WAITS_S", 0.3)
    began = time.monotonic()
    assert await read(registry, "perpetua_stream_answers", **HELD) == 1
    assert 0.3 <= time.monotonic() - began < 10


async def test_who_reads_in_the_event_loop_itself_does_not_wait(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for itself."""
    monkeypatch.setattr(broker, "_WAITS_S", 20.0)
    registry = CollectorRegistry()
    BrokerMetrics(registry)
    began = time.monotonic()
    assert registry.get_sample_value("perpetua_stream_answers", HELD) is None
    assert time.monotonic() - began < 10
