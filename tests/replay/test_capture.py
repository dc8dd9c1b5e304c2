"""Capturing by itself, with a real broker: bounded, never in the way, and noticed where it stops working."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.provision import provision
from libs.bus.read import last_of, stream_state
from libs.cognition.compose import Answer, failed
from libs.contracts import streams, subjects
from libs.contracts.captures import Capture
from libs.contracts.limits import CAPTURE_BYTES
from libs.contracts.streams import StreamBounds
from libs.contracts.work import ContextLine, WorkItem
from services.thinker import capture as rules
from services.thinker.backends.fallback import Fallback
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.capture import OUTSTANDING, QUEUED, CaptureMetrics, Captures, Sampler
from services.thinker.prompt import Prompt
from tests.endpoint.serving import settings
from tests.support.broker import Broker
from tests.support.eventually import eventually

SETTINGS = settings("http://ann:pw@127.0.0.1:1/v1", API_KEY="secret")
GOOD = Answer(text="A thought.", model="m", latency_ms=3)


def item(count: int, persona: str = "ann") -> WorkItem:
    line = ContextLine("thought_generated", "2026-01-02T03:04:05Z", "{}")
    return WorkItem(persona, "Ann", "critic", "Find.", "s", count, datetime.now(UTC), [line], 1)


class Taking:
    """Captures under test, with what they count."""

    def __init__(self, bus: Bus, mode: str) -> None:
        self.registry = CollectorRegistry()
        self.changes = 0
        self.backend = OpenAICompat(SETTINGS, "a test named it")
        self.captures = Captures(
            bus, mode, "thinker-1", SETTINGS, CaptureMetrics(self.registry), self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    def take(self, count: int, answer: Answer = GOOD, user: str = "the user") -> None:
        self.captures.take(item(count), Prompt("the system", user, "{"), self.backend, answer)

    def counted(self, outcome: str) -> int:
        return int(self.registry.get_sample_value("perpetua_captures_total", {"outcome": outcome}) or 0)


@asynccontextmanager
async def taking(bus: Bus, mode: str = "all") -> AsyncIterator[Taking]:
    made = Taking(bus, mode)
    running = asyncio.create_task(made.captures.run())
    try:
        yield made
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.backend.close()


async def stored(bus: Bus) -> int:
    return int((await stream_state(bus, streams.CAPTURES))["messages"])


@pytest.mark.fact("H18")
async def test_a_capture_holds_what_a_replay_needs_and_nothing_secret(bus: Bus) -> None:
    async with taking(bus) as made:
        made.take(7)
        await eventually(lambda: made.counted("kept") == 1)
    found = await last_of(bus, streams.CAPTURES, subjects.capture("ann", 7))
    assert found is not None
    assert b"secret" not in found.data and b"pw@" not in found.data
    capture = msgspec.json.decode(found.data, type=Capture)
    prompt = capture.prompt
    assert (prompt.system, prompt.user, prompt.prefill) == ("the system", "the user", "{")
    assert (capture.persona_id, capture.thought_count, capture.phase, capture.thinker) == (
        "ann", 7, "test", "thinker-1",
    )  # fmt: skip
    assert capture.settings.endpoint == "http://127.0.0.1:1/v1/chat/completions"
    assert (capture.answer.text, capture.answer.latency_ms) == ("A thought.", 3)
    assert len(capture.context) == 1


async def test_so_many_are_held_and_the_oldest_go(broker: Broker, bus: Bus) -> None:
    await provision(bus, StreamBounds(max_captures=5))
    async with taking(bus) as made:
        for count in range(1, 21):
            made.take(count)
        await eventually(lambda: made.counted("kept") == 20)
    assert await stored(bus) == 5
    assert await last_of(bus, streams.CAPTURES, subjects.capture("ann", 15)) is None
    assert await last_of(bus, streams.CAPTURES, subjects.capture("ann", 16)) is not None


async def test_a_thought_that_is_thought_twice_has_its_last_form(bus: Bus) -> None:
    async with taking(bus) as made:
        made.take(1)
        made.take(1, Answer(text="Another."))
        await eventually(lambda: made.counted("kept") == 2)
    assert await stored(bus) == 1


async def test_off_keeps_nothing_and_failures_only_those(bus: Bus) -> None:
    async with taking(bus, "off") as made:
        made.take(1)
        made.take(2, failed("no"))
    async with taking(bus, "failures") as made:
        made.take(3)
        made.take(4, failed("HTTP 500: no"))
        made.take(5, Answer(text="  \n"))
        await eventually(lambda: made.counted("kept") == 2)
        assert made.counted("left_out") == 1
    assert await stored(bus) == 2


async def test_thoughts_for_which_nobody_was_asked_are_not_kept(bus: Bus) -> None:
    async with taking(bus) as made:
        made.take(1, Answer(error="left alone", asked=False))
        made.captures.take(item(2), Prompt("s", "u"), Fallback("nothing", None), failed(None))
        made.take(3)
        await eventually(lambda: made.counted("kept") == 1)
    assert await stored(bus) == 1


async def test_a_sample_is_bounded(bus: Bus) -> None:
    clock = asyncio.get_running_loop().time
    async with taking(bus, "sample") as made:
        began = clock()
        for count in range(1, 401):
            made.take(count)
        most = rules.SAMPLE_PER_S * (1 + clock() - began) + 1
        await eventually(lambda: made.counted("kept") + made.counted("left_out") == 400)
        assert rules.SAMPLE_PER_S <= made.counted("kept") <= most
        assert made.captures.trouble() is None


def test_the_sampler_takes_so_many_a_second_however_they_come() -> None:
    now = 50.0
    sampler = Sampler(20, lambda: now)
    taken = 0
    for _ in range(10_000):
        taken += sampler.takes()
        now += 0.001
    assert 200 <= taken <= 221
    now += 1000
    assert sum(sampler.takes() for _ in range(1000)) == 20


@pytest.mark.fact("H18")
async def test_taking_never_waits_and_what_is_too_much_is_lost_and_said_once(bus: Bus) -> None:
    made = Taking(bus, "all")  # nobody stores
    with structlog.testing.capture_logs() as logs:
        for count in range(1, QUEUED + 101):
            made.take(count)
    assert made.counted("lost") == 100
    assert [record["event"] for record in logs] == ["captures_lost"]
    assert made.changes == 1
    assert "PERPETUA_CAPTURE=sample" in (made.captures.trouble() or "")
    await made.backend.close()


@pytest.mark.fact("H18")
async def test_a_stream_that_is_gone_is_noticed_said_once_and_over_when_it_is_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "WELL_AFTER_S", 0.2)
    await bus.api(f"STREAM.DELETE.{streams.CAPTURES}")
    async with taking(bus) as made:
        with structlog.testing.capture_logs() as logs:
            for count in range(1, 11):
                made.take(count)
            await eventually(lambda: made.counted("lost") == 10)
            assert [record["event"] for record in logs if record["log_level"] == "warning"] == [
                "captures_lost"
            ]
            trouble = made.captures.trouble() or ""
            assert "run `perpetua provision`" in trouble
            await provision(bus, StreamBounds())

            async def well() -> bool:
                made.take(99)
                return made.captures.trouble() is None

            await eventually(well)
            assert made.changes == 2
            assert "captures_back" in [record["event"] for record in logs]


async def test_a_capture_that_is_too_large_is_counted_and_troubles_nobody(bus: Bus) -> None:
    async with taking(bus) as made:
        made.take(1, user="x" * CAPTURE_BYTES)
        made.take(2)
        await eventually(lambda: made.counted("kept") == 1)
        assert (made.counted("too_large"), made.captures.trouble()) == (1, None)


async def test_a_broker_that_is_away_costs_captures_and_nothing_else(broker: Broker, bus: Bus) -> None:
    async with taking(bus) as made:
        made.take(1)
        await eventually(lambda: made.counted("kept") == 1)
        broker.kill()
        await eventually(lambda: not bus.connected)
        for count in range(2, 2 + 2 * OUTSTANDING):
            made.take(count)
        await eventually(lambda: made.counted("lost") == 2 * OUTSTANDING)
        broker.start()
        await eventually(lambda: bus.connected)

        async def kept() -> bool:
            made.take(1000)
            return made.counted("kept") >= 2

        await eventually(kept)


@pytest.mark.fact("H18")
async def test_a_fault_in_capturing_itself_is_lost_and_said(bus: Bus) -> None:
    async with taking(bus) as made:
        broken: Any = Answer(text="\ud800")
        made.take(1, broken)
        await eventually(lambda: made.counted("lost") == 1)
        assert "thoughts are not captured: " in (made.captures.trouble() or "")
        made.take(2)
        await eventually(lambda: made.counted("kept") == 1)
