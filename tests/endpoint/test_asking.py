"""Asking side by side: connections, concurrency, the circuit, cancellation; counted at a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import perf_counter

import pytest

from libs.cognition.compose import Answer
from libs.runtime.process import ConfigurationError
from services.thinker.backends import breaker as rules
from services.thinker.backends.openai_compat import OpenAICompat, shown
from tests.endpoint.serving import GOOD, PROMPT, Exchange, asking, good, serving, settings
from tests.support.eventually import eventually


async def many(backend: OpenAICompat, count: int) -> list[Answer]:
    return await asyncio.gather(*(backend.answer(PROMPT) for _ in range(count)))


def failing(status: int, headers: str = "") -> Callable[[Exchange], Awaitable[None]]:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(status, b"no", headers)

    return behave


async def test_connections_are_kept_and_used_again() -> None:
    async with serving() as server, asking(server) as (backend, _):
        for _ in range(20):
            assert (await backend.answer(PROMPT)).text == GOOD
        assert (server.connections, len(server.requests)) == (1, 20)


async def test_a_server_that_closes_after_each_answer_gets_a_connection_each() -> None:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(headers="Connection: close\r\n")

    async with serving(behave) as server, asking(server) as (backend, tally):
        for _ in range(5):
            assert (await backend.answer(PROMPT)).text == GOOD
        assert server.connections == 5
        assert tally.outcomes == {"answered": 5}


async def test_a_connection_that_the_server_has_closed_is_not_used() -> None:
    async with serving() as server, asking(server) as (backend, tally):
        assert (await backend.answer(PROMPT)).text == GOOD
        server.requests[0].cut()
        await eventually(lambda: server.open == 0)
        assert (await backend.answer(PROMPT)).text == GOOD
        assert tally.outcomes == {"answered": 2}


@pytest.mark.parametrize("most", [1, 5, 32])
async def test_no_more_requests_are_under_way_than_the_setting_says(most: int) -> None:
    under_way = peak = 0
    full = asyncio.Event()
    go = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        if under_way == most:
            full.set()
        await go.wait()
        under_way -= 1
        await exchange.answer()

    async with serving(behave) as server, asking(server, CONCURRENCY=str(most)) as (backend, _):
        assert backend.capacity == most
        asked = asyncio.create_task(many(backend, 2 * most + 3))
        await asyncio.wait_for(full.wait(), 30)
        go.set()
        assert all(answer.text == GOOD for answer in await asked)
        assert peak == most
        assert server.connections == most


async def test_a_slow_thought_holds_nobody_back() -> None:
    async def behave(exchange: Exchange) -> None:
        if len(server.requests) == 1:
            await asyncio.Event().wait()
        await exchange.answer()

    async with serving(behave) as server, asking(server, CONCURRENCY="2") as (backend, _):
        slow = asyncio.create_task(backend.answer(PROMPT))
        await eventually(lambda: len(server.requests) == 1)
        assert all(answer.text == GOOD for answer in await many(backend, 10))
        assert not slow.done()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_thought_that_is_given_up_closes_its_connection_and_says_nothing_of_the_endpoint() -> None:
    """As when a thinker drains: the server need not think on."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with serving(behave) as server, asking(server) as (backend, tally):
        asked = [asyncio.create_task(backend.answer(PROMPT)) for _ in range(20)]
        await eventually(lambda: len(server.requests) == 20)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await eventually(lambda: server.open == 0, what="closed connections")
        assert (tally.outcomes, tally.states) == ({"cancelled": 20}, [])


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_costs_one_request_and_says_what_to_do(status: int) -> None:
    async with serving(failing(status)) as server, asking(server) as (backend, tally):
        first = await backend.answer(PROMPT)
        assert (first.error, first.asked) == (f"HTTP {status}: no", True)
        for answer in await many(backend, 200):
            assert answer.asked is False
            assert answer.error is not None
            assert answer.error.startswith(f"the endpoint {server.base_url}/chat/completions is left alone: ")
            assert f"HTTP {status}: no; set CODETETHER_COGNITION_THINKER_API_KEY to a key" in answer.error
        assert len(server.requests) == 1
        assert tally.outcomes == {"unauthorized": 1, "not_asked": 200}
        assert tally.states == ["open"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_dead_endpoint_costs_so_many_requests_and_no_more(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked one after another: a retry counts, and none is made once the circuit is open."""
    monkeypatch.setattr(rules, "PAUSE_S", 100.0)
    async with serving(failing(status)) as server, asking(server) as (backend, _):
        while backend.trouble() is None:
            await backend.answer(PROMPT)
        assert all(not answer.asked for answer in await many(backend, 500))
        assert len(server.requests) == rules.FAILURES


async def test_what_is_under_way_when_it_dies_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAUSE_S", 100.0)
    async with serving(failing(503)) as server, asking(server) as (backend, tally):
        answers = await many(backend, 300)
        assert not any(answer.text for answer in answers)
        assert len(server.requests) <= backend.capacity, "nobody's second attempt, nobody who waited"
        assert tally.outcomes["not_asked"] == 300 - len(server.requests)


async def test_it_is_probed_by_one_thought_and_used_again_once_that_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "PAUSE_S", 0.1)
    async with serving(failing(503)) as server, asking(server) as (backend, tally):
        await many(backend, 50)
        before = len(server.requests)
        probing, go = asyncio.Event(), asyncio.Event()

        async def behave(exchange: Exchange) -> None:
            probing.set()
            await go.wait()
            await exchange.answer()

        server.behave = behave

        async def probe() -> Answer | None:
            answer = await backend.answer(PROMPT)
            return answer if answer.asked else None

        probed = asyncio.create_task(eventually(probe))
        await asyncio.wait_for(probing.wait(), 30)
        assert all(not answer.asked for answer in await many(backend, 50)), "one probe at a time"
        assert len(server.requests) == before + 1
        go.set()
        found = await probed
        assert found is not None and found.text == GOOD
        assert backend.trouble() is None
        server.behave = good
        assert all(answer.text == GOOD for answer in await many(backend, 50))
        assert tally.states[-2:] == ["half_open", "closed"]


async def test_a_server_that_asks_for_a_long_pause_is_left_alone_from_the_first_refusal_on() -> None:
    async with serving(failing(429, "Retry-After: 40\r\n")) as server, asking(server) as (backend, tally):
        first = await backend.answer(PROMPT)
        assert (first.error, first.asked) == ("HTTP 429: no", True)
        for answer in await many(backend, 100):
            assert (answer.asked, answer.outage) == (False, True)
            assert answer.error is not None and "is left alone: HTTP 429: no; lower" in answer.error
        assert len(server.requests) == 1
        assert (tally.states, tally.pauses) == (["held"], [40])
        told = backend.circuit()
        assert told.state == "held" and told.because is not None and told.until is not None
        assert 15 < (told.until - datetime.now(UTC)).total_seconds() <= 40


async def test_a_short_pause_is_waited_for_by_all_and_none_of_them_is_a_fallback() -> None:
    """Five of ten are refused; the others waited for their turn. Nobody asks before a second is over."""
    at: list[float] = []

    async def behave(exchange: Exchange) -> None:
        at.append(perf_counter())
        if len(at) <= 5:
            await exchange.answer(429, b"no", "Retry-After: 1\r\n")
        else:
            await exchange.answer()

    async with serving(behave) as server, asking(server, CONCURRENCY="5") as (backend, tally):
        answers = await many(backend, 10)
        assert all(answer.text == GOOD for answer in answers)
        assert tally.outcomes == {"throttled": 5, "answered": 10}
        assert at[5] - at[0] >= 1, "the refused wait, and so do those who come new"
        assert tally.states[-1] == "closed" and "open" not in tally.states


async def test_usage_and_finish_reason_are_the_answers_own() -> None:
    body = {"choices": [{"message": {"content": "Long."}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}  # fmt: skip

    async def behave(exchange: Exchange) -> None:
        await exchange.answer(body=json.dumps(body).encode())

    async with serving(behave) as server, asking(server) as (backend, _):
        answer = await backend.answer(PROMPT)
        assert answer.finish_reason == "length"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


async def test_a_seed_is_sent_where_one_was_given_and_only_there() -> None:
    async with serving() as server:
        async with asking(server) as (backend, _):
            await backend.answer(PROMPT)
            assert "THINKER_SEED" in backend.ignores
        async with asking(server, SEED="7") as (backend, _):
            await backend.answer(PROMPT)
            assert "THINKER_SEED" not in backend.ignores
        sent = [json.loads(exchange.body).get("seed") for exchange in server.requests]
        assert sent == [None, 7]


async def test_names_and_passwords_in_the_address_are_used_and_never_shown() -> None:
    async with serving(failing(401)) as server:
        url = server.base_url.replace("http://", "http://ann:s%40cret@")
        async with asking(url) as (backend, _):
            await backend.answer(PROMPT)
            assert "Authorization: Basic YW5uOnNAY3JldA==" in server.requests[0].head
            for text in (backend.description, backend.trouble() or "", backend.endpoint):
                assert server.base_url in text
                assert "cret" not in text


async def test_a_key_that_cannot_be_sent_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="Authorization holds characters"):
        OpenAICompat(settings("http://127.0.0.1:1/v1", API_KEY="a\nb"), "a test named it")


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://u:p@h:1/v1", "http://h:1/v1"),
        ("https://h/v1?x=1", "https://h/v1?x=1"),
        ("http://[::1]:8/v1", "http://[::1]:8/v1"),
    ],
)
def test_addresses_are_shown_without_credentials(url: str, seen: str) -> None:
    assert shown(url) == seen
