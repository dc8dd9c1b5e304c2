"""Thinkers that sum up what a swarm remembers: who answers, within which window, how many at once [A18]."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, cast

import msgspec
import pytest
from nats.errors import NoRespondersError
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.loop import Postpone
from libs.bus.presence import list_present
from libs.contracts import subjects
from libs.contracts.rollups import SharedSnapshot, SummaryReply, SummaryRequest
from libs.settings.cognition import PREFIX
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.metrics import ThinkerMetrics
from services.thinker.summaries import AT_ONCE, NO_ROOM, Summaries, fit
from tests.endpoint.serving import settings
from tests.support.broker import Broker
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually

NOBODY = cast("Any", None)


def snapshots(*summaries: str) -> list[SharedSnapshot]:
    return [
        SharedSnapshot(
            persona_id=f"p{n}", name=f"n{n}", role="r", summary=summary, hot_event_count=1, by_model=True
        )
        for n, summary in enumerate(summaries)
    ]


def request(*summaries: str, within_ms: int = 5000) -> SummaryRequest:
    return SummaryRequest(swarm_id="s", snapshots=snapshots(*summaries), within_ms=within_ms)


def summaries_of(backend: OpenAICompat) -> Summaries:
    return Summaries(lambda: backend, ThinkerMetrics(CollectorRegistry(), lambda: 0))


async def sum_up(summaries: Summaries, asked: SummaryRequest) -> SummaryReply:
    return msgspec.json.decode(await summaries.sum_up(asked, NOBODY), type=SummaryReply)


@pytest.mark.fact("A18")
async def test_the_newest_that_the_window_has_room_for_are_told_the_oldest_first() -> None:
    with endpoint(lambda _: "Calm.") as server:
        backend = OpenAICompat(settings(server.base_url, CONTEXT_WINDOW="700", MAX_TOKENS="32"), "a test")
        told = snapshots("long " * 200, "older", "newer")
        fitting = fit(told, backend)
        assert fitting.told == 2
        assert '"n1", "r": "older"\n- "n2", "r": "newer"' in fitting.prompt.user
        assert "long" not in fitting.prompt.user
        assert backend.count(fitting.prompt.system) + backend.count(fitting.prompt.user) <= 700 - 32
        reply = await sum_up(summaries_of(backend), request("older", "newer"))
        assert (reply.text, reply.told, reply.error) == ("Calm.", 2, None)
        nothing = await sum_up(summaries_of(backend), request("long " * 400))
        assert (nothing.text, nothing.told, nothing.error) == (None, 0, NO_ROOM)
        assert len(server.requests) == 1
        await backend.close()


@pytest.mark.fact("A18")
async def test_more_than_two_at_once_are_not_begun_and_their_time_bounds_each() -> None:
    released = Event()
    with endpoint(lambda _: "Calm." if released.wait(30) else 500) as server:
        backend = OpenAICompat(settings(server.base_url), "a test")
        made = summaries_of(backend)
        begun = [asyncio.create_task(sum_up(made, request("x", within_ms=30_000))) for _ in range(AT_ONCE)]
        await eventually(lambda: len(server.requests) == AT_ONCE)
        with pytest.raises(Postpone):
            await sum_up(made, request("x"))
        released.set()
        assert [reply.text for reply in await asyncio.gather(*begun)] == ["Calm."] * AT_ONCE
        released.clear()
        hurried = [sum_up(made, request("x", within_ms=200)) for _ in range(AT_ONCE)]
        assert {reply.error for reply in await asyncio.gather(*hurried)} == {"no summary within 0.2 s"}
        released.set()
        assert (await sum_up(made, request("x"))).text == "Calm."
        await backend.close()


@contextmanager
def thinker(broker: Broker, instance: str, **env: str) -> Iterator[None]:
    """A thinker as a process of its own."""
    named = {f"{PREFIX}THINKER_{name}": value for name, value in env.items()}
    own = {"PERPETUA_NATS_URL": broker.url, "PERPETUA_INSTANCE": instance}
    process = subprocess.Popen([sys.executable, "-m", "services.thinker"], env=os.environ | named | own)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


async def ready(bus: Bus, instance: str) -> bool:
    return any(found.instance == instance and found.ready for found in await list_present(bus))


@pytest.mark.fact("A18")
async def test_a_thinker_with_a_model_answers_and_one_without_does_not_listen(
    bus: Bus, broker: Broker
) -> None:
    with endpoint(lambda _: "All is calm.") as server:
        with thinker(broker, "with", BACKEND="openai_compat", BASE_URL=server.base_url):
            reply = await bus.ask(subjects.SUMMARIES, request("a", "b"), SummaryReply, timeout=30)
        assert (reply.text, reply.told, reply.model) == ("All is calm.", 2, "qwen2.5:3b-instruct")
        assert reply.usage is not None and reply.usage.completion_tokens == 20
    with thinker(broker, "without", ENABLED="false"):
        await eventually(lambda: ready(bus, "without"), 30)
        with pytest.raises(NoRespondersError):
            await bus.client.request(subjects.SUMMARIES, msgspec.json.encode(request("a", "b")), timeout=30)
