"""Messages through the endpoint backend: what a server may answer, and what becomes of each [A5, H15]."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.contracts.journal import ThoughtEntry
from services.scheduler.weights import fits
from services.thinker.backends.openai_compat import ANSWER_BYTES, OpenAICompat
from tests.endpoint.serving import settings
from tests.support.endpoint import Endpoint, Raw, endpoint
from tests.thinker.reading import Reading
from tests.unit.messages import decision, events, of_type, outcomes, reading, taken

GOOD = decision(True, "It is calm.")
MISSING = json.dumps({"will_respond": True})


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint(lambda _: GOOD) as running:
        yield running


@asynccontextmanager
async def reader(url: str, **env: str) -> AsyncIterator[Reading]:
    backend = OpenAICompat(settings(url, **env), "a test named it")
    try:
        yield Reading(backend)
    finally:
        await backend.close()


async def read(server: Endpoint, *replies: str | int | Raw, **env: str) -> ThoughtEntry:
    """A thought that takes up two messages, of which the second has failed twice."""
    if replies:
        left = list(replies)
        server.reply = lambda _: left.pop(0)
    async with reader(server.base_url, **env) as made:
        return await made.thinking.answer(reading(taken(1), taken(2, "And now?", attempts=2)), 1)


def asked(server: Endpoint) -> list[str]:
    return [request["messages"][-1]["content"] for request in server.requests]


@pytest.mark.fact("H15")
@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "\n```\n{}```  "])
async def test_one_call_decides_and_writes(server: Endpoint, around: str) -> None:
    entry = await read(server, around.replace("{}", GOOD))
    thought, handled = events(entry)
    assert thought["payload"]["thinking"] == handled["payload"]["response"] == "It is calm."
    assert thought["payload"]["inbox_item_ids"] == ["i-1", "i-2"]
    assert outcomes(entry) == ["handled", "handled"]
    assert entry.effort is not None
    assert (entry.effort.tokens, entry.effort.cpu_ms) == (120, thought["payload"]["latency_ms"])
    (user,) = asked(server)
    assert '"Is it calm?"' in user and '"And now?"' in user
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user"], "no answer's start is sent: servers differ in what they make of one"


@pytest.mark.fact("H15")
async def test_a_model_that_did_not_decide_is_asked_once_more_and_told_what_was_wrong(
    server: Endpoint,
) -> None:
    entry = await read(server, MISSING, GOOD)
    first, second = asked(server)
    assert second == f"{first} Your last answer was not taken (no decision: response: is missing)."
    thought, handled = events(entry)
    assert (handled["payload"]["response"], handled["payload"]["error"]) == ("It is calm.", None)
    assert thought["payload"]["usage"]["total_tokens"] == 240, "both answers are paid for"
    assert entry.effort is not None and entry.effort.tokens == 240


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MISSING, "no decision: response: is missing"),
        (decision("true"), "no decision: will_respond: is a string, not a boolean"),
        (decision(True, ["Calm."]), "no decision: response: is a list, not a string"),
        ("I would say it is calm.", "no decision: the answer is not one JSON object"),
        (f"{GOOD} {GOOD}", "no decision: the answer is not one JSON object"),
    ],
)
async def test_what_is_no_decision_twice_is_an_error_for_all_to_see(
    server: Endpoint, text: str, said: str
) -> None:
    entry = await read(server, text, text)
    thought = events(entry)[0]["payload"]
    assert (thought["source"], thought["thinking"]) == ("model", text)
    assert thought["error"].startswith(said)
    (handled,) = of_type(entry, "inbox_handled")
    assert (handled["will_respond"], handled["response"], handled["error"]) == (None, None, thought["error"])
    assert outcomes(entry) == ["failed", "aside"]
    assert of_type(entry, "inbox_dropped")[0]["content"] == "And now?"
    assert len(server.requests) == 2


@pytest.mark.fact("A5")
@pytest.mark.parametrize("reply", [500, 503, 429, 401, 404, Raw(b"{}", 302, {"Location": "http://x/"})])
async def test_an_outage_counts_for_no_attempt_and_no_event_tells_of_it(
    server: Endpoint, reply: int | Raw
) -> None:
    entry = await read(server, reply, reply)
    assert outcomes(entry) == ["returned", "returned"]
    assert [kind for kind, _ in entry.events] == ["thought_generated"]
    thought = events(entry)[0]["payload"]
    assert (thought["source"], thought["error"] is None) == ("fallback", False)
    assert entry.effort is not None and entry.effort.failed


@pytest.mark.fact("A5")
async def test_nor_does_a_server_that_is_not_there_or_is_left_alone(server: Endpoint) -> None:
    server.reply = lambda _: 401
    async with reader(server.base_url) as made:
        found = [await made.thinking.answer(reading(taken(attempts=2)), 1) for _ in range(2)]
    server.close()
    async with reader(server.base_url) as made:
        found.append(await made.thinking.answer(reading(taken(attempts=2)), 1))
    assert [outcomes(entry) for entry in found] == [["returned"]] * 3
    errors = [events(entry)[0]["payload"]["error"] for entry in found]
    assert "HTTP 401" in errors[0]
    assert "is left alone" in errors[1]
    assert "cannot connect" in errors[2]


@pytest.mark.fact("A5")
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (400, "HTTP 400"),
        (413, "HTTP 413"),
        ("  ", "empty completion"),
        (Raw(b"not json"), "not a chat completion"),
        (Raw(b"x" * (ANSWER_BYTES + 1)), "larger than"),
    ],
)
async def test_what_the_messages_may_have_a_part_in_is_an_attempt(
    server: Endpoint, reply: Any, said: str
) -> None:
    entry = await read(server, reply)
    assert outcomes(entry) == ["failed", "aside"]
    (handled,) = of_type(entry, "inbox_handled")
    assert said in handled["error"]
    assert len(server.requests) == 1, "a failure is not asked again for want of a decision"


@pytest.mark.fact("A5")
async def test_a_thought_that_takes_too_long_is_an_attempt(server: Endpoint) -> None:
    held = threading.Event()
    server.reply = lambda _: str(held.wait(60))
    try:
        async with reader(server.base_url, TIMEOUT_MS="100") as made:
            entry = await made.thinking.answer(reading(taken(1), taken(2, attempts=2)), 1)
    finally:
        held.set()
    assert outcomes(entry) == ["failed", "aside"]
    assert of_type(entry, "inbox_handled")[0]["error"] == "no answer within 100 ms"


@pytest.mark.fact("H15")
async def test_a_huge_response_is_trimmed_and_fits(server: Endpoint) -> None:
    entry = await read(server, decision(True, "\x01" * 400_000))
    assert fits(entry)
    assert outcomes(entry) == ["handled", "handled"]
    assert len(of_type(entry, "inbox_handled")[0]["response"]) == 4003


async def test_a_second_question_that_meets_an_outage_is_one_and_is_paid_for(server: Endpoint) -> None:
    entry = await read(server, MISSING, 503, 503)
    assert outcomes(entry) == ["returned", "returned"]
    assert events(entry)[0]["payload"]["source"] == "fallback"
    assert entry.effort is not None and entry.effort.tokens == 120


async def test_decisions_are_counted(server: Endpoint) -> None:
    replies = [GOOD, decision(False, ""), MISSING, GOOD, MISSING, MISSING]
    server.reply = lambda _: replies.pop(0)
    async with reader(server.base_url) as made:
        for _ in range(4):
            await made.thinking.answer(reading(taken()), 1)
        found = {
            word: made.counted("perpetua_decisions_total", outcome=word)
            for word in ("response", "silence", "none")
        }
        assert found == {"response": 2, "silence": 1, "none": 1}
        assert made.counted("perpetua_decisions_asked_again_total") == 2
        assert made.counted("perpetua_inbox_items_taken_up_total", outcome="handled") == 3
        assert made.counted("perpetua_context_sources_total", source="inbox", outcome="satisfied") == 4


@pytest.mark.fact("A19")
async def test_a_model_that_repeats_itself_is_counted(server: Endpoint) -> None:
    async with reader(server.base_url) as made:
        server.reply = lambda _: "The door stands open since noon, and nobody has come in."
        first = await made.thinking.answer(reading(), 1)
        assert first.effort is not None
        again = await made.thinking.answer(reading(recent=[first.effort.signature]), 1)
        assert made.counted("perpetua_thoughts_repeating_total") == 1
    assert events(first)[0]["payload"]["novelty"] == 1.0
    assert events(again)[0]["payload"]["novelty"] == 0.0
