"""An OpenAI-compatible endpoint as backend: what is tried again, and what becomes of bad answers [3.13]."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic, sleep
from typing import Any

import pytest

from libs.cognition.compose import Answer
from libs.contracts.thoughts import Usage
from libs.settings.cognition import PREFIX, ThinkerSettings, cognition_reader, read_cognition
from services.thinker.backends import openai_compat
from services.thinker.backends.openai_compat import ANSWER_BYTES, OpenAICompat
from services.thinker.prompt import Prompt
from tests.support.endpoint import Endpoint, Raw, Reply, completion, endpoint
from tests.support.ports import free_port

PROMPT = Prompt("the system", "the user")


def settings(url: str, **env: str) -> ThinkerSettings:
    named = {f"{PREFIX}THINKER_{name}": value for name, value in env.items()}
    return read_cognition(cognition_reader({f"{PREFIX}THINKER_BASE_URL": url} | named)).thinker


@asynccontextmanager
async def backend(url: str, **env: str) -> AsyncIterator[OpenAICompat]:
    running = OpenAICompat(settings(url, **env), "a test named it")
    try:
        yield running
    finally:
        await running.close()


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as running:
        yield running


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """What slow replies wait for; set when the test ends, so that no thread is left behind."""
    event = threading.Event()
    yield event
    event.set()


def one_after_another(*replies: str | int | Raw) -> Reply:
    left = list(replies)
    return lambda _: left.pop(0)


async def ask(server: Endpoint, **env: str) -> Answer:
    async with backend(server.base_url, **env) as asked:
        return await asked.answer(PROMPT)


async def test_the_prompt_and_the_settings_go_out_and_the_answer_comes_back(server: Endpoint) -> None:
    answer = await ask(server, MODEL="m:1b", API_KEY="k", TEMPERATURE="0.5", TOP_P="0.9", MAX_TOKENS="33")
    assert answer.text == "A calm signal. One doubt remains."
    assert (answer.model, answer.finish_reason, answer.error) == ("m:1b", "stop", None)
    assert answer.usage == Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120)
    (request,) = server.requests
    system, user = request.pop("messages")
    assert system == {"role": "system", "content": "the system"}
    assert user == {"role": "user", "content": "the user"}
    sampling = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 33}
    assert request == {"model": "m:1b", "stream": False} | sampling
    assert server.headers[0]["Authorization"] == "Bearer k"


@pytest.mark.fact("3.13")
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_passing_failure_is_asked_again_once_after_500_ms(server: Endpoint, status: int) -> None:
    pauses: list[float] = []
    while not pauses or (pauses[-1] >= 2 and len(pauses) < 3):  # a busy machine may stall
        at: list[float] = []
        replies = one_after_another(status, "Well again.")

        def reply(request: dict[str, Any], at: list[float] = at, replies: Reply = replies) -> str | int | Raw:
            at.append(monotonic())
            return replies(request)

        server.reply = reply
        answer = await ask(server)
        assert (answer.text, answer.error) == ("Well again.", None)
        assert len(at) == 2
        assert answer.latency_ms >= 500, "what it cost counts"
        pauses.append(at[1] - at[0])
    assert 0.5 <= min(pauses) < 2


@pytest.mark.fact("3.13")
async def test_a_second_failure_is_the_answer(server: Endpoint) -> None:
    server.reply = one_after_another(503, Raw(b"the  model\nis loading", 503), "never asked")
    answer = await ask(server)
    assert (answer.text, answer.error) == (None, "HTTP 503: the model is loading")
    assert len(server.requests) == 2


@pytest.mark.fact("3.13")
@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_other_failures_are_not_asked_again(server: Endpoint, status: int) -> None:
    server.reply = lambda _: status
    answer = await ask(server)
    assert answer.text is None
    assert answer.error is not None and answer.error.startswith(f"HTTP {status}: ")
    assert len(server.requests) == 1


@pytest.mark.fact("3.13")
async def test_an_attempt_that_times_out_is_asked_again_with_the_full_time(
    server: Endpoint, held: threading.Event
) -> None:
    for timeout_ms in (200, 1000, 5000):  # a busy machine may stall
        calls = iter([True, False])

        def reply(_: dict[str, Any], calls: Iterator[bool] = calls) -> str:
            if next(calls):
                held.wait(60)
            return "In time."

        server.reply = reply
        answer = await ask(server, TIMEOUT_MS=str(timeout_ms))
        if answer.text is not None:
            break
    assert answer.text == "In time."
    assert answer.latency_ms >= timeout_ms + 500, "the first one timed out"


@pytest.mark.fact("3.13")
async def test_two_attempts_that_time_out_say_so(server: Endpoint, held: threading.Event) -> None:
    server.reply = lambda _: str(held.wait(60))
    for timeout_ms in (100, 1000, 3000):  # a busy machine may stall, and a request not go out in time
        server.requests.clear()
        answer = await ask(server, TIMEOUT_MS=str(timeout_ms))
        least = 2 * timeout_ms + 500
        if len(server.requests) == 2 and least <= answer.latency_ms < least + 2300:
            break
    assert (answer.text, answer.error) == (None, f"no answer within {timeout_ms} ms")
    assert least <= answer.latency_ms < least + 2300
    assert len(server.requests) == 2


@pytest.mark.fact("3.13")
async def test_a_second_attempt_has_its_whole_time_also_where_the_process_stood_still(
    server: Endpoint, held: threading.Event
) -> None:
    server.reply = lambda _: str(held.wait(60))
    asyncio.get_running_loop().call_later(0.05, sleep, 1.0)
    answer = await ask(server, TIMEOUT_MS="100")
    assert (answer.text, answer.error) == (None, "no answer within 100 ms")


@pytest.mark.fact("3.13")
async def test_a_refused_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at first; the server is up by the time of the second attempt."""
    port = free_port("127.0.0.1")
    async with backend(f"http://127.0.0.1:{port}/v1") as asked:
        refused = await asked.answer(PROMPT)
        assert refused.text is None
        assert refused.error is not None and refused.error.startswith("cannot connect to")
        assert refused.latency_ms >= 500
        monkeypatch.setattr(openai_compat, "RETRY_S", 3.0)
        asking = asyncio.create_task(asked.answer(PROMPT))
        await asyncio.wait([asking], timeout=0.1)
        assert not asking.done()
        with endpoint(port=port):
            assert (await asking).text == "A calm signal. One doubt remains."


BAD = {
    "no JSON": (b"<html>hello</html>", "not a chat completion: "),
    "cut off": (json.dumps(completion("x")).encode()[:-9], "not a chat completion: "),
    "nothing": (b"", "not a chat completion: "),
    "another type": (b"[1, 2]", "not a chat completion: "),
    "no UTF-8": (b'{"choices": [{"message": {"content": "\xff"}}]}', "not a chat completion: "),
    "half a surrogate": (b'{"choices": [{"message": {"content": "\\ud800"}}]}', "not a chat completion: "),
    "no choices": (b'{"choices": []}', "a chat completion without choices"),
    "no key": (b"{}", "a chat completion without choices"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_body_that_is_no_completion_is_a_failure_that_says_so(server: Endpoint, case: str) -> None:
    body, said = BAD[case]
    server.reply = lambda _: Raw(body)
    answer = await ask(server)
    assert answer.text is None
    assert answer.error is not None and answer.error.startswith(said)
    assert len(server.requests) == 1, "it would say the same again"


EMPTY: dict[str, dict[str, Any]] = {
    "blank": {"message": {"content": ""}},
    "null": {"message": {"content": None}},
    "no content": {"message": {"role": "assistant"}},
    "no message": {},
    "no parts": {"message": {"content": []}},
}


@pytest.mark.parametrize("case", EMPTY)
async def test_an_empty_answer_is_an_empty_text_and_no_failure(server: Endpoint, case: str) -> None:
    """That it becomes the declared fallback, `empty completion`, is up to composing [3.11]."""
    server.reply = lambda _: Raw(json.dumps({"choices": [EMPTY[case]]}).encode())
    answer = await ask(server)
    assert (answer.text, answer.error, answer.usage) == ("", None, None)


async def test_content_in_parts_is_put_together(server: Endpoint) -> None:
    content = [{"type": "text", "text": "One. "}, {"type": "image"}, {"type": "text", "text": "Two."}]
    server.reply = lambda _: Raw(json.dumps({"choices": [{"message": {"content": content}}]}).encode())
    assert (await ask(server)).text == "One. Two."


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens": "many"}',
        b'"lots"',
        b'{"prompt_tokens": "\xff"}',
        b'{"total_tokens": 1e400}',
        b"[]",
    ],
)
async def test_a_count_of_tokens_in_another_form_costs_no_answer(server: Endpoint, usage: bytes) -> None:
    body = b'{"choices": [{"message": {"content": "Still here."}}], "usage": %b}'
    server.reply = lambda _: Raw(body % usage)
    answer = await ask(server)
    assert (answer.text, answer.usage) == ("Still here.", None)


async def test_a_huge_answer_is_not_read_to_its_end(server: Endpoint) -> None:
    server.reply = lambda _: Raw(b" " * (ANSWER_BYTES * 4))
    answer = await ask(server)
    assert (answer.text, answer.error) == (None, f"the answer is larger than {ANSWER_BYTES} bytes")
    assert len(server.requests) == 1
    server.reply = lambda _: "x" * (ANSWER_BYTES // 2)
    assert len((await ask(server)).text or "") == ANSWER_BYTES // 2


@pytest.mark.fact("3.2")
async def test_a_slow_answer_does_not_hold_the_others_up(server: Endpoint, held: threading.Event) -> None:
    server.reply = lambda request: str("slowly" in json.dumps(request) and held.wait(60))
    async with backend(server.base_url) as asked:
        slow = asyncio.create_task(asked.answer(Prompt("s", "slowly")))
        async with asyncio.timeout(30):
            others = await asyncio.gather(*[asked.answer(Prompt("s", f"{n}")) for n in range(20)])
        assert [answer.text for answer in others] == ["False"] * 20
        assert not slow.done()
        held.set()
        assert (await slow).text == "True"
