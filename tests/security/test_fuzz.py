"""Ten thousand hostile requests, the same in every run: none gets a 500, none costs memory for good."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.support.swarm import HOST, Swarm, swarm

REQUESTS = 10_000
SIDE_BY_SIDE = 40
ANSWER_WITHIN_S = 0.3
"""Most of what is no whole request gets no answer before its time is over; it is not waited for."""

MAY_GROW_BYTES = 64 << 20
METHODS = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "get",
    "P\x00ST",
]  # fmt: skip
PATHS = [
    "/", "/v1/cognition/status", "/v1/cognition/start", "/v1/cognition/stop", "/v1/cognition/events",
    "/v1/cognition/snapshots", "/v1/cognition/snapshots/latest", "/v1/swarm/personas", "/v1/swarm/lineage",
    "/v1/swarm/personas/root-thinker", "/v1/swarm/personas/x/spawn", "/v1/swarm/personas/x/reap",
    "/v1/swarm/personas/root-thinker/inbox", "/v1/swarm/swarms/swarm-core/inbox",
    "/v1/swarm/personas/root-thinker/inbox/x",
    "/v1/session", "/metrics", "/readyz", "/static/js/main.js", "/schema", "/schema/openapi.json",
]  # fmt: skip
PIECES = [
    "..", "%2e%2e", "%00", "%ff", "%", "%zz", "%F0%9F%98%80", "\x1b[2J", "'\"><script>", "a" * 3000, "{}",
    "*", "\\", "%2F", "//", "?", "#", ";", "$KV.personas.>", "perpetua.events.>", "\u202e", "", " ", "null",
    "-1", "1e999", "9" * 400, "NaN", "0x10", "true", "\x00", "\x7f", "é", "<|im_end|>", "${jndi:ldap}",
    "../../etc/passwd",
]  # fmt: skip
HEADERS = [
    "Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Authorization", "Cookie",
    "Last-Event-ID", "Origin", "Sec-Fetch-Site", "Accept", "Expect", "Upgrade", "Connection", "Range",
    "X-Forwarded-For", "Content-Encoding", "Accept-Encoding", "If-None-Match", "traceparent", "X" * 300,
]  # fmt: skip
VALUES = [
    "chunked", "gzip, chunked", "100-continue", "websocket", "h2c", "upgrade", "close", "keep-alive",
    "application/json", "application/json; charset=utf-16", "multipart/form-data; boundary=x",
    "text/event-stream", "0", "10", "99999999999", "Bearer x", "Basic Og==",
    "perpetua_session=control.9999999999.AAAA", "bytes=0-1", "null", "http://evil.example", *PIECES,
]  # fmt: skip
BODIES = [
    b"", b"{}", b"[]", b"null", b'{"name":"n","role":"r","charter":"c"}', b'{"loop_interval_ms":1e400}',
    b'{"loop_interval_ms":"100"}', b'{"name":' + b'"\\ud800"' + b',"role":"r","charter":"c"}', b"\xff\xfe",
    b"[" * 5000, b'{"a":' * 3000, b'{"cascade":"yes"}', b'{"persona_id":"' + b"x" * 5000 + b'"}',
    b'{"content":"c"}', b'{"content":"c","id":"x","priority":-1}', b'{"content":"c","timestamp":"9999"}',
    b"\x00" * 100, b'{"token":"x"}', b'{"reason":"\\u0000"}', b"x" * (1 << 20),
]  # fmt: skip

ENDS = [b"\r\n", b"\n", b"\r\n\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"\x00"]


def shaped(chance: random.Random) -> bytes:
    """A request of HTTP's form with strange parts."""
    path = chance.choice(PATHS) if chance.random() < 0.6 else "/" + "/".join(some(chance, PIECES, 4))
    if chance.random() < 0.4:
        names = ["after", "limit", "swarm_id", "status", "persona_id", chance.choice(PIECES)]
        path += "?" + "&".join(f"{chance.choice(names)}={chance.choice(PIECES)}" for _ in range(3))
    body = chance.choice(BODIES) if chance.random() < 0.5 else b""
    lines = [f"{chance.choice(METHODS)} {path} HTTP/1.{chance.choice('011')}", f"Host: {HOST}"]
    if body and chance.random() < 0.9:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{chance.choice(HEADERS)}: {chance.choice(VALUES)}" for _ in range(chance.randrange(6))]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


def damaged(chance: random.Random) -> bytes:
    """A request with bytes cut, flipped, repeated or put in."""
    data = bytearray(shaped(chance)[:20_000])
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(5):
            case 0:
                data[at : at + chance.randrange(40)] = b""
            case 1:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(40)))
            case 2:
                data[at:at] = data[at : at + 60] * chance.randrange(20)
            case 3 if data:
                data[at] ^= 1 << chance.randrange(8)
            case _:
                data[at:at] = chance.choice(
                    [b"\r\n", b"\n", b"\r\n\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"\x00"]
                )
    return bytes(data)


def some(chance: random.Random, of: list[str], most: int) -> list[str]:
    return [chance.choice(of) for _ in range(chance.randrange(most + 1))]


def requests(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    kinds: list[Callable[[random.Random], bytes]] = [shaped, damaged]
    for number in range(REQUESTS):
        yield kinds[number % 2](chance)


async def send(port: int, request: bytes) -> bytes:
    """Send a request and return the beginning of what comes."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(4096), ANSWER_WITHIN_S)
        finally:
            writer.close()
    except (TimeoutError, ConnectionError):
        return b""


async def storm(port: int) -> tuple[Counter[str], list[bytes]]:
    """Send everything; return how often each status came, and what was answered with a 500."""
    statuses: Counter[str] = Counter()
    faults: list[bytes] = []
    waiting = requests(20260101)

    async def work() -> None:
        for request in waiting:
            answer = await send(port, request)
            statuses[answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none"] += 1
            if answer.startswith(b"HTTP/1.1 500"):
                faults.append(request[:2000])

    await asyncio.gather(*(work() for _ in range(SIDE_BY_SIDE)))
    return statuses, faults


@pytest.mark.timeout(240)
def test_ten_thousand_hostile_requests_are_harmless() -> None:
    with swarm("--quiet", settings={"MAX_EVENTS": "2000"}) as running:
        pid = running.pid("gateway")
        asyncio.run(few(running))
        before = psutil.Process(pid).memory_info().rss
        statuses, faults = asyncio.run(storm(running.gateway_port))
        assert faults == []
        assert statuses.total() == REQUESTS
        assert statuses["200"] > 100, "some are what they should be"
        assert statuses["400"] > 1000
        assert running.pid("gateway") == pid, "it lives"
        assert psutil.Process(pid).memory_info().rss - before < MAY_GROW_BYTES
        assert running.get("/v1/cognition/status")["enabled"] is True
        assert "request_failed" not in (running.data / "logs" / "gateway-1.log").read_text()


async def few(running: Swarm) -> None:
    """Let the gateway load what it loads with its first requests."""
    await asyncio.gather(*(send(running.gateway_port, request) for request in list(requests(1))[:200]))
