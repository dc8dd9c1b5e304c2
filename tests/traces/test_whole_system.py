"""One trace from the API call to the event at a subscriber; and nothing at all where no collector is set."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg

from libs.contracts.traces import TRACEPARENT, is_traceparent
from tests.support.collector import Collector
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually, eventually_sync
from tests.support.ports import free_port
from tests.support.swarm import HOST, Swarm

PERSONA = {"persona_id": "ann", "name": "Ann", "role": "critic", "charter": "Look", "swarm_id": "s1"}
DECISION = json.dumps({"will_respond": True, "response": "It is green."})
SERVICES = {"registry", "scheduler", "thinker", "compressor", "gateway"}


@contextmanager
def traced(
    otel: dict[str, str], endpoint: Endpoint | None = None, arguments: tuple[str, ...] = (), **more: str
) -> Iterator[Swarm]:
    """A swarm with OpenTelemetry's settings; without an endpoint it declares fallbacks."""
    thinks = {"THINKER_BASE_URL": endpoint.base_url, "THINKER_MODEL": "stand-in"} if endpoint else {}
    backend = {} if endpoint else {"THINKER_ENABLED": "false"}
    running = Swarm(*arguments, settings={"LOOP_INTERVAL_MS": "200"} | thinks | backend)
    running.settings |= {f"OTEL_{name}": value for name, value in otel.items()} | more
    try:
        running.start(until_ready=False)
        eventually_sync(lambda: running.http("GET", "/readyz").status == 200, 40, "readiness")
        yield running
    finally:
        running.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def call(trace: str, flags: str = "01") -> tuple[str, dict[str, str]]:
    """A client's span in a trace, and the header that names it."""
    span = secrets.token_hex(8)
    return span, {TRACEPARENT: f"00-{trace}-{span}-{flags}"}


class Subscriber:
    """Whoever reads the public events, with their headers."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []

    async def take(self, message: Msg) -> None:
        self.messages.append(message)

    def of(self, event_type: str, persona_id: str = "") -> list[Msg]:
        end = f".{persona_id}.{event_type}" if persona_id else f".{event_type}"
        return [one for one in self.messages if one.subject.endswith(end)]


async def test_one_trace_leads_from_a_call_to_the_thought_it_caused_and_to_the_events_of_that(
    collector: Collector,
) -> None:
    """Only what belongs to the call is traced: nothing else is sampled here."""
    endpoint = Endpoint(lambda request: DECISION)
    trace, created = secrets.token_hex(16), secrets.token_hex(16)
    seen = Subscriber()
    settings = {"EXPORTER_OTLP_ENDPOINT": collector.url, "TRACES_SAMPLER_ARG": "0"}
    with traced(settings, endpoint) as swarm:
        client = await nats.connect(swarm.nats_url)
        await client.subscribe("perpetua.events.>", cb=seen.take)
        await client.flush()
        answer = swarm.http("POST", "/v1/swarm/personas", PERSONA, headers=call(created)[1])
        assert answer.status == 200, answer.body
        client_span, header = call(trace)
        answer = swarm.http(
            "POST", "/v1/swarm/personas/ann/inbox", {"content": "Is it green?"}, headers=header
        )
        assert answer.status == 200, answer.body
        (handled, *_) = await eventually(lambda: seen.of("inbox_handled"), 20)
        names = {
            "POST /v1/swarm/personas/{persona_id}/inbox", "thought", "queue wait", "think",
            "chat stand-in", "settle", "publish",
        }  # fmt: skip
        collector.until(trace, names)
        await eventually(lambda: len([one for one in collector.of(trace) if one.name == "publish"]) == 2, 20)
        spans = collector.of(trace)
        by_name = {span.name: span for span in spans}
        (spawned, *_) = await eventually(lambda: seen.of("persona_spawned", "ann"), 20)
        await eventually(lambda: any(TRACEPARENT not in (one.headers or {}) for one in seen.messages))
        collector.until(created, {"perpetua.registry.create", "publish"})
        await client.close()
    endpoint.close()

    post = by_name["POST /v1/swarm/personas/{persona_id}/inbox"]
    thought, think, chat = by_name["thought"], by_name["think"], by_name["chat stand-in"]
    settle = by_name["settle"]
    assert (post.service, post.parent) == ("perpetua-gateway", client_span)
    assert post.attributes["http.response.status_code"] == 200
    assert (thought.service, thought.parent) == ("perpetua-scheduler", post.span)
    assert by_name["queue wait"].parent == thought.span
    assert (think.service, think.parent) == ("perpetua-thinker", thought.span)
    assert chat.parent == settle.parent == think.span
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == "stand-in"
    published = [span for span in spans if span.name == "publish"]
    assert {span.service for span in published} == {"perpetua-compressor"}
    assert {span.parent for span in published} == {post.span, thought.span}, "what came in, what came of it"
    for span in (thought, think):
        assert span.attributes["perpetua.persona.id"] == "ann"
        assert span.attributes["perpetua.swarm.id"] == "s1"
        assert span.attributes["perpetua.thought.count"] == thought.attributes["perpetua.thought.count"]
    assert thought.begun <= think.begun <= chat.begun <= chat.ended <= settle.begun
    assert settle.begun <= thought.ended <= settle.ended <= think.ended, "the owner ends it, then answers"

    after_thought = next(span for span in published if span.parent == thought.span)
    assert json.loads(handled.data)["payload"]["response"] == "It is green."
    assert handled.headers is not None
    assert handled.headers[TRACEPARENT] == f"00-{trace}-{after_thought.span}-01"
    assert b"traceparent" not in b"".join(one.data for one in seen.messages), "payloads are what they were"
    for message in seen.messages:
        context = (message.headers or {}).get(TRACEPARENT)
        assert context is None or context.split("-")[1] in (trace, created)
    assert len(seen.of("persona_spawned", "ann")) == 1
    assert (spawned.headers or {})[TRACEPARENT].split("-")[1] == created


async def test_ticks_are_traced_by_themselves_and_hostile_contexts_are_ignored(collector: Collector) -> None:
    """Flushed at the end: what had ended when the processes were told to stop is there."""
    trace = secrets.token_hex(16)
    hostile = [
        f"00-{trace}-{'0' * 16}-01", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{trace}-{'1' * 16}-01",
        f"00-{trace.upper()}X-{'1' * 16}-01", f"00-{trace}-{'1' * 16}-01-x", "x" * 4000, "%0d%0a", "00---",
    ]  # fmt: skip
    with traced(
        {"EXPORTER_OTLP_ENDPOINT": collector.url, "TRACES_SAMPLER": "parentbased_always_on"}
    ) as swarm:
        swarm.post("/v1/swarm/personas", PERSONA)
        for text in hostile:
            answer = swarm.http(
                "POST", "/v1/swarm/personas/ann/inbox", {"content": "x"}, headers={TRACEPARENT: text}
            )
            assert answer.status == 200, (text, answer.body)
        unsampled = swarm.http(
            "POST", "/v1/swarm/personas/ann/inbox", {"content": "x"}, headers=call(trace, "00")[1]
        )
        assert unsampled.status == 200
        eventually_sync(lambda: len(_came(swarm)) > len(hostile), 20)
        eventually_sync(lambda: _thought(swarm), 20, "a thought that has ended")
        assert swarm.stop() == 0
        ticks = [one for one in collector.spans if one.name == "thought"]
        own = [one for one in collector.spans if one.name.startswith("POST ") and not one.parent]
    assert len(own) >= len(hostile), "each begins a trace of its own"
    assert ticks
    assert collector.of(trace) == [], "not sampled by who called, so not by us"
    assert collector.unreadable == 0


def test_a_collector_that_is_away_stops_nothing_and_is_said_once() -> None:
    """Spans are dropped, and counted; processes end in time."""
    away = f"http://{HOST}:{free_port(HOST)}"
    with traced({"EXPORTER_OTLP_ENDPOINT": away, "TRACES_SAMPLER": "always_on"}) as swarm:
        swarm.post("/v1/swarm/personas", PERSONA)
        eventually_sync(lambda: swarm.get("/v1/swarm/personas/ann")["thought_count"] > 20, 30)
        port = swarm.metrics_ports(["scheduler"])["scheduler"]

        def lost() -> bool:
            return _dropped(port) > 0

        eventually_sync(lost, 30)

        def said() -> list[str]:
            lines = _logs(swarm.data)["scheduler"].splitlines()
            return [line for line in lines if "collector_away" in line]

        eventually_sync(said, what="it is said")  # it is counted first, and comes through a pipe
        assert len(said()) == 1, said()
        assert "Traceback" not in _logs(swarm.data)["scheduler"]
        assert swarm.stop(within=15) == 0


async def test_without_an_endpoint_no_process_loads_opentelemetry_and_no_event_has_a_header() -> None:
    """Also where a client sends a context."""
    seen = Subscriber()
    with traced({}, PYTHONPROFILEIMPORTTIME="1") as swarm:
        client = await nats.connect(swarm.nats_url)
        await client.subscribe("perpetua.events.>", cb=seen.take)
        await client.flush()
        eventually_sync(lambda: swarm.post("/v1/swarm/personas", PERSONA), 20)
        _, header = call(secrets.token_hex(16))
        answer = swarm.http("POST", "/v1/swarm/personas/ann/inbox", {"content": "x"}, headers=header)
        assert answer.status == 200
        await eventually(lambda: len(_counts(seen)) > 3, 30)
        await eventually(lambda: seen.of("inbox_received"), 20)
        await client.close()
        assert swarm.stop() == 0
        logs = _logs(swarm.data)
    assert logs.keys() >= SERVICES
    for service in SERVICES:
        assert "nats.aio.client" in logs[service], "what it imports is told"
        assert re.findall(r"\| +(opentelemetry\S*)", logs[service]) == [], service
    assert not any(TRACEPARENT in (one.headers or {}) for one in seen.messages)


def test_what_is_a_context_is_what_the_standard_says() -> None:
    assert is_traceparent(f"00-{'a' * 32}-{'b' * 16}-01")
    for text in (
        "",
        f"00-{'a' * 32}-{'b' * 16}-01\n",
        f"00-{'a' * 32}-{'b' * 16}-0",
        f"00-{'0' * 32}-{'b' * 16}-01",
    ):
        assert not is_traceparent(text), text


def _came(swarm: Swarm) -> list[Any]:
    return [one for one in swarm.events() if one["event_type"] == "inbox_received"]


def _thought(swarm: Swarm) -> list[Any]:
    return [one for one in swarm.events() if "thinking" in one["payload"]]


def _counts(seen: Subscriber) -> set[int]:
    """Which thoughts of Ann's were heard of."""
    return {
        json.loads(one.data)["payload"].get("thought_count")
        for one in seen.messages
        if ".ann." in one.subject
    } - {None}


def _logs(data: Path) -> dict[str, str]:
    """What the services printed, by service."""
    found: dict[str, str] = {}
    for path in sorted((data / "logs").iterdir()):
        service = path.name.split("-")[0].split(".")[0]
        found[service] = found.get(service, "") + path.read_text()
    return found


def _dropped(port: int) -> float:
    from tests.support.http import fetch

    text: Any = fetch(f"http://{HOST}:{port}/metrics", "GET").body
    lines = (text if isinstance(text, str) else text.decode()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("perpetua_spans_dropped_total"))
