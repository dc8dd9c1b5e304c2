"""A shard goes to another scheduler amid a thought: what of its trace is lost by a kill, and what goes on."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from libs.bus.presence import chosen
from libs.contracts.tokens import shard_of
from tests.support.collector import Collector, Seen
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import PREFIX, Swarm
from tests.traces.test_whole_system import DECISION, PERSONA, call, traced

SCHEDULERS = {"scheduler-1", "scheduler-2"}
OWNER = chosen(SCHEDULERS, f"shard-{shard_of('ann')}") or ""
(OTHER,) = SCHEDULERS - {OWNER}
POST = "POST /v1/swarm/personas/{persona_id}/inbox"
WHOLE = {POST, "thought", "queue wait", "think", "chat stand-in", "settle", "publish"}


class Model:
    """Answers at once, but for a prompt with the text that it holds back until released."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(self._reply)
        self._held = ""
        self._released = Event()

    def hold(self, text: str) -> None:
        self._held = text
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def _reply(self, request: dict[str, Any]) -> str:
        if self._held and self._held in json.dumps(request):
            assert self._released.wait(60)
        return DECISION


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.release()
    made.endpoint.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_the_trace_of_a_thought_goes_on_where_its_shard_goes_to_another_scheduler(
    collector: Collector, model: Model
) -> None:
    """A kill costs what was open in the process, as docs/operations.md says; a handover costs nothing."""
    settings = {"EXPORTER_OTLP_ENDPOINT": collector.url, "TRACES_SAMPLER_ARG": "0"}
    patient = {f"{PREFIX}THINKER_TIMEOUT_MS": "90000"}
    with traced(settings, model.endpoint, ("--schedulers", "2"), **patient) as swarm:
        swarm.post("/v1/swarm/personas", PERSONA)
        eventually_sync(lambda: ready(swarm) == SCHEDULERS, 30, "two schedulers")
        caller, trace = ask(swarm, model, "Is it red?")
        with nobody_started_anew(swarm):
            os.kill(pids(swarm)[OWNER], signal.SIGKILL)
            model.release()
            cut = stored(collector, trace, WHOLE - {"queue wait"})
            later, trace = ask(swarm, model, "Is it blue?")
        eventually_sync(lambda: ready(swarm) == SCHEDULERS, 30, "the killed one again")
        model.release()
        eventually_sync(lambda: len(named(collector.of(trace), "thought")) == 2, 20, "both owners' spans")
        whole = stored(collector, trace, WHOLE)
        assert_once_and_in_order(swarm)

    (think,), (thought,) = named(cut, "think"), named(cut, "thought")
    assert strangers(cut) == {caller, think.parent}, "the one span that was open in the dead process"
    assert (thought.instance, thought.parent) == (OTHER, think.parent)
    assert_published_under(cut, thought)

    assert strangers(whole) == {later}, "nothing is missing"
    (think,), (first, second) = named(whole, "think"), named(whole, "thought")
    assert [first.instance, second.instance] == [OTHER, OWNER]
    assert (second.parent, think.parent) == (first.span, first.span)
    assert first.attributes["perpetua.thought.handed_over"] is True
    assert "perpetua.thought.handed_over" not in second.attributes
    assert_published_under(whole, second)
    assert collector.unreadable == 0


def ask(swarm: Swarm, model: Model, text: str) -> tuple[str, str]:
    """Send a message in a trace of its own, until the model is asked; the client's span, and the trace."""
    model.hold(text)
    trace = secrets.token_hex(16)
    span, header = call(trace)
    answer = swarm.http("POST", "/v1/swarm/personas/ann/inbox", {"content": text}, headers=header)
    assert answer.status == 200, answer.body
    eventually_sync(lambda: model.endpoint.calls_about(text), 20, "the model asked")
    return span, trace


def stored(collector: Collector, trace: str, names: set[str]) -> list[Seen]:
    """The trace of a message, in order, once it and what came of it are published."""
    collector.until(trace, names, 40)
    eventually_sync(lambda: len(named(collector.of(trace), "publish")) == 2, 20, "both events")
    return sorted(collector.of(trace), key=lambda span: span.begun)


@contextmanager
def nobody_started_anew(swarm: Swarm) -> Iterator[None]:
    """Stop whoever starts dead processes again while the context is open."""
    assert swarm.process is not None
    swarm.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        swarm.process.send_signal(signal.SIGCONT)


def pids(swarm: Swarm) -> dict[str, int]:
    return {row["instance"]: int(row["pid"]) for row in swarm.ps()}


def ready(swarm: Swarm) -> set[str]:
    return {row["instance"] for row in swarm.ps() if row["service"] == "scheduler" and row["ready"]}


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


def strangers(spans: list[Seen]) -> set[str]:
    """Parents that are not in the trace."""
    return {span.parent for span in spans} - {span.span for span in spans}


def assert_published_under(spans: list[Seen], thought: Seen) -> None:
    (post,), (think,) = named(spans, POST), named(spans, "think")
    assert {span.parent for span in named(spans, "publish")} == {post.span, thought.span}
    count = "perpetua.thought.count"
    assert thought.attributes[count] == think.attributes[count]


def assert_once_and_in_order(swarm: Swarm) -> None:
    """Ann's thoughts are 1, 2, 3, …, and each message was handled once."""
    events = [event for event in swarm.events() if event["persona_id"] == "ann"]
    numbers = [event["payload"]["thought_count"] for event in events if "thinking" in event["payload"]]
    assert numbers == list(range(1, len(numbers) + 1))
    handled = [event["payload"] for event in events if event["event_type"] == "inbox_handled"]
    assert [[p["items"][0]["outcome"], p["error"]] for p in handled] == [["handled", None]] * 2
