"""What the endpoint thinker makes of every fault a server can have, and how many requests it costs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import pytest

from libs.cognition.compose import Answer
from services.thinker.backends.breaker import FAILURES
from services.thinker.backends.faults import seconds_of
from services.thinker.backends.openai_compat import ANSWER_BYTES
from tests.endpoint.serving import GOOD, PROMPT, Exchange, Server, asking, serving
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually
from tests.support.ports import free_port


async def ask_once(server: Server | str, **env: str) -> Answer:
    async with asking(server, **env) as (backend, _):
        return await backend.answer(PROMPT)


def status(number: int, body: bytes = b"{}", headers: str = "") -> Callable[[Exchange], Awaitable[None]]:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(number, body, headers)

    return behave


def in_turn(*behaviours: Callable[[Exchange], Awaitable[None]]) -> Callable[[Exchange], Awaitable[None]]:
    left = list(behaviours)

    async def behave(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return behave


async def good(exchange: Exchange) -> None:
    await exchange.answer()


async def cut_before(exchange: Exchange) -> None:
    exchange.cut()


async def cut_in_body(exchange: Exchange) -> None:
    await exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choices": [')
    exchange.cut()


async def silence(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def drip(exchange: Exchange) -> None:
    """A byte now and then: never silent, never done."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await exchange.send(b" ")
        await asyncio.sleep(0.02)


async def endless_headers(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.send(b"X-More: " + b"y" * 4000 + b"\r\n")


async def one_endless_header(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nX-More: ")
    while True:
        await exchange.send(b"y" * 16384)


async def huge(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


async def not_http(exchange: Exchange) -> None:
    await exchange.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")


async def early_hints(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    await exchange.answer()


async def chunked(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = b'{"choices": [{"message": {"content": "In pieces."}}]}'
    for at in range(0, len(body), 7):
        piece = body[at : at + 7]
        await exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    await exchange.send(b"0\r\n\r\n")


async def until_closed(exchange: Exchange) -> None:
    """HTTP/1.0's way: no length, the end of the connection is the end of the answer."""
    await exchange.send(b'HTTP/1.0 200 OK\r\n\r\n{"choices": [{"message": {"content": "Old."}}]}')
    exchange.writer.write_eof()
    exchange.writer.close()


FAULTS: dict[str, tuple[Callable[[Exchange], Awaitable[None]], str, str, int]] = {
    # what the server does: behaviour, beginning of the error, outcome, requests for one thought
    "cut before an answer": (cut_before, "the connection was cut before an answer", "cut", 2),
    "cut in the body": (cut_in_body, "the connection was cut after 13 bytes of the answer", "cut", 2),
    "silence": (silence, "no answer within 400 ms", "timeout", 2),
    "drip": (drip, "no answer within 400 ms", "timeout", 2),
    "endless headers": (endless_headers, "not an HTTP answer: Too many headers", "cut", 2),
    "one endless header": (one_endless_header, "not an HTTP answer: Got more than 16384 bytes", "cut", 2),
    "huge": (huge, f"the answer is larger than {ANSWER_BYTES} bytes", "invalid", 1),
    "not HTTP": (not_http, "not an HTTP answer", "cut", 2),
    "garbage": (status(200, b"<html>login</html>"), "not a chat completion", "invalid", 1),
    "deep garbage": (status(200, b'{"x":' + b"[" * 200_000), "not a chat completion", "invalid", 1),
    "429": (status(429), "HTTP 429: {}", "throttled", 2),
    "429 for long": (status(429, headers="Retry-After: 30\r\n"), "HTTP 429: {}", "throttled", 1),
    "500": (status(500), "HTTP 500: {}", "server_error", 1),
    "502": (status(502), "HTTP 502: {}", "server_error", 2),
    "503": (status(503, b"the  model\nloads"), "HTTP 503: the model loads", "server_error", 2),
    "504": (status(504), "HTTP 504: {}", "server_error", 2),
    "400": (status(400, b"too long"), "HTTP 400: too long", "rejected", 1),
    "401": (status(401, b"bad key"), "HTTP 401: bad key", "unauthorized", 1),
    "403": (status(403), "HTTP 403: {}", "unauthorized", 1),
    "404": (status(404, b"no model"), "HTTP 404: no model", "misdirected", 1),
    "redirect": (
        status(307, headers="Location: http://127.0.0.1:1/v1\r\n"),
        "HTTP 307: redirects to http://127.0.0.1:1/v1",
        "misdirected",
        1,
    ),
}


@pytest.mark.fact("3.13")
@pytest.mark.parametrize("case", FAULTS)
async def test_a_fault_is_a_failure_with_its_cause_after_so_many_requests(case: str) -> None:
    behave, error, outcome, requests = FAULTS[case]
    timeout = "400" if outcome == "timeout" else "60000"
    async with serving(behave) as server, asking(server, TIMEOUT_MS=timeout) as (backend, tally):
        answer = await backend.answer(PROMPT)
        assert (answer.text, answer.asked) == (None, True)
        assert answer.error is not None and answer.error.startswith(error), answer.error
        assert len(server.requests) == requests
        assert tally.outcomes == {outcome: requests}
        await eventually(lambda: server.open == (0 if outcome in ("cut", "timeout") else server.open))


@pytest.mark.parametrize("behave", [early_hints, chunked, until_closed])
async def test_unusual_but_right_answers_are_answers(behave: Callable[[Exchange], Awaitable[None]]) -> None:
    async with serving(behave) as server:
        answer = await ask_once(server)
        assert answer.error is None and answer.text in (GOOD, "In pieces.", "Old.")
        assert len(server.requests) == 1


@pytest.mark.fact("3.13")
async def test_retry_after_is_waited_for_where_it_is_short() -> None:
    """A second, not the half that it would otherwise be."""
    async with serving(in_turn(status(429, headers="Retry-After: 1\r\n"), good)) as server:
        began = perf_counter()
        answer = await ask_once(server)
        assert answer.text == GOOD
        assert 1.0 <= perf_counter() - began < 15
        assert len(server.requests) == 2


async def test_a_thought_takes_at_most_two_attempts_and_half_a_second() -> None:
    """Of three thoughts the shortest counts: a busy machine makes them longer."""
    latencies = []
    for _ in range(3):
        async with serving(silence) as server:
            answer = await ask_once(server, TIMEOUT_MS="300")
        latencies.append(answer.latency_ms)
        if answer.latency_ms < 1400:
            break
    assert 1100 <= min(latencies) < 2500
    assert len(server.requests) == 2


async def test_retry_after_never_stretches_a_thought_beyond_its_time() -> None:
    """With attempts of 400 ms a wait of 4 s does not fit: the thought fails at once."""
    async with serving(status(503, headers="Retry-After: 4\r\n")) as server:
        answer = await ask_once(server, TIMEOUT_MS="400")
        assert answer.latency_ms < 4000
        assert len(server.requests) == 1


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert seconds_of("7", now) == 7
    assert seconds_of("Fri, 02 Jan 2026 03:04:25 GMT", now) == 20
    assert seconds_of("Fri, 02 Jan 2026 03:00:00 GMT", now) == 0
    for nonsense in (None, "", "soon", "-3", "1e9", "٣"):
        assert seconds_of(nonsense, now) is None


async def test_an_endpoint_that_refuses_connections_is_tried_twice_and_says_where() -> None:
    port = free_port("127.0.0.1")
    async with asking(f"http://127.0.0.1:{port}/v1") as (backend, tally):
        answer = await backend.answer(PROMPT)
        assert answer.error == f"cannot connect to 127.0.0.1:{port}: connection refused"
        assert tally.outcomes == {"unreachable": 2}


async def test_a_host_that_no_one_knows_is_unreachable() -> None:
    answer = await ask_once("http://no-such-host.invalid:1/v1")
    assert answer.error is not None and answer.error.startswith("cannot connect to no-such-host.invalid:1: ")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed but itself, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no openssl to make a certificate with")
    return folder


async def test_a_certificate_that_cannot_be_trusted_is_refused_and_not_tried_again(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with serving(tls=tls) as server, asking(server) as (backend, tally):
        answer = await backend.answer(PROMPT)
        assert answer.error is not None
        assert answer.error.startswith(
            f"cannot connect to 127.0.0.1:{server.port}: its certificate is refused"
        )
        assert server.requests == [], "nothing was sent, no key least of all"
        assert tally.outcomes == {"unreachable": 1}


async def test_a_trusted_certificate_is_taken(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with serving(tls=tls) as server, asking(server) as (backend, _):
        assert (await backend.answer(PROMPT)).text == GOOD
        assert (await backend.answer(PROMPT)).text == GOOD
        assert server.connections == 1


async def test_the_speech_of_plain_http_to_tls_is_a_fault_with_its_cause() -> None:
    with endpoint() as server:
        answer = await ask_once(server.base_url.replace("http:", "https:"))
        assert answer.error is not None and "TLS failed" in answer.error


async def test_one_bad_prompt_never_counts_against_the_endpoint() -> None:
    async with serving(status(400)) as server, asking(server) as (backend, tally):
        for _ in range(2 * FAILURES):
            await backend.answer(PROMPT)
        assert len(server.requests) == 2 * FAILURES
        assert (tally.states, backend.trouble()) == ([], None)
