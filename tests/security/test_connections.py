"""One connection, and all of them, cost a bounded amount, whatever a client does or leaves undone."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime

import pytest

from services.gateway.connections import ConnectionLimits
from tests.security.serving import Answered, Served, served
from tests.support.eventually import eventually

HEAD = b"GET /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SMALL = b"GET / HTTP/1.1\r\n\r\n"
QUICK = ConnectionLimits(
    connections=100, client_connections=0, head_s=0.4, body_s=0.4, stalled_s=0.4, head_bytes=8192
)


async def test_a_head_that_trickles_is_ended_in_time_however_much_of_it_comes() -> None:
    """Slow-loris: a byte now and then does not prolong it. What it still sends may cost it the answer."""
    async with served(QUICK) as server:
        reader, writer = await server.open()
        began, said = time.monotonic(), asyncio.create_task(reader.read())
        writer.write(HEAD)
        while not said.done():
            writer.write(b"X-A: b\r\n")
            await asyncio.sleep(0.02)
        assert said.exception() or "headers did not come in time" in Answered(said.result()).detail
        assert time.monotonic() - began < 10
        writer.close()
        assert server.refused == {"Request Timeout": 1}


async def test_every_answer_has_the_date_on_which_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the second one on a server that has rested in between."""
    now = time.time()
    async with served(QUICK) as server:
        for later in (0, 3600):
            monkeypatch.setattr(time, "time", lambda later=later: now + later)
            date = parsedate_to_datetime((await server.get()).headers["date"])
            assert abs(date.timestamp() - now - later) <= 1


async def test_a_body_that_trickles_is_ended_in_time() -> None:
    async with served(QUICK) as server:
        reader, writer = await server.open()
        said = asyncio.create_task(reader.read())
        writer.write(HEAD.replace(b"GET", b"POST") + b"Content-Length: 100000\r\n\r\n")
        while not said.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert said.exception() or "body did not come in time" in Answered(said.result()).detail
        writer.close()
        assert server.refused == {"Request Timeout": 1}


@pytest.mark.parametrize("said", [b"", b"\r\n", HEAD + b"\r\n"])
async def test_a_connection_that_falls_silent_is_closed(said: bytes) -> None:
    """Before its first request at once; between requests only where it says something that is none."""
    async with served(QUICK) as server:
        reader, writer = await server.open()
        writer.write(said)
        if said.startswith(b"GET"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\r\n")  # a line end before a request is no request
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await eventually(lambda: server.door.inside == 0, what="the client to be out")


async def test_a_client_that_takes_nothing_of_its_answer_is_gone_in_time() -> None:
    async with served(QUICK) as server:
        reader, writer = await server.open()
        writer.write(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readexactly(100)
        await eventually(lambda: server.refused["stalled"] == 1, what="the client given up")
        await eventually(lambda: server.door.inside == 0, what="the client to be out")
        writer.close()


async def test_a_client_that_takes_its_answer_slowly_gets_it_all() -> None:
    """In longer than it may take nothing. Client and server stand still together: then it is tried again."""
    async with served(QUICK) as server:
        for _ in range(5):
            length, longest = await take_slowly(server)
            if longest < QUICK.stalled_s / 2:
                break
        assert length == 32 << 20


async def take_slowly(server: Served) -> tuple[int, float]:
    """Return how much came of a large answer, and the longest time between two looks."""
    reader, writer = await server.open()
    length, longest, at = 0, 0.0, time.monotonic()
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        while data := await reader.read(1 << 20):
            length += len(data)
            await asyncio.sleep(0.02)
            longest, at = max(longest, time.monotonic() - at), time.monotonic()
    longest = max(longest, time.monotonic() - at)
    writer.close()
    return length, longest


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        HEAD + b"X: " + b"a" * 9000,
        HEAD + b"X-Y: z\r\n" * 2000 + b"\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 9000,
        b"G" * 9000,
    ],
    ids=["one header", "one without end", "many headers", "a path", "a path without end", "a method"],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with served(QUICK) as server:
        answer = Answered(await server.exchange(head))
        assert answer.status in ((431,) if b" " in head else (400, 431))
        assert answer.detail
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_trailers_are_bounded_like_headers() -> None:
    async with served(QUICK) as server:
        head = HEAD.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        reader, writer = await server.open()
        writer.write(head)
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"X-Trailer: " + b"a" * 1000 + b"\r\n")
                await writer.drain()
            await reader.read()
            raise ConnectionResetError("closed without a reset")
        writer.close()
        await eventually(lambda: server.door.inside == 0, what="the client to be out")


async def test_what_is_no_http_gets_a_problem_document() -> None:
    async with served() as server:
        for sent in (b"\x16\x03\x01\x02\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  \r\n\r\n"):
            answer = Answered(await server.exchange(sent))
            assert answer.status == 400
            assert "Invalid HTTP request" in answer.detail


async def test_one_connection_too_many_is_told_so_and_the_others_go_on() -> None:
    async with served(ConnectionLimits(connections=3, client_connections=0)) as server:
        held = [await server.open() for _ in range(3)]
        await eventually(lambda: server.door.inside == 3, what="three inside")
        answer = Answered(await server.exchange(b""))
        assert answer.status == 503
        assert "too many connections" in answer.detail
        reader, writer = held[0]
        writer.write(HEAD + b"\r\n")
        assert b"200" in await reader.readline()
        for _, each in held:
            each.close()
        await eventually(lambda: server.door.inside == 0, what="all out")
        assert (await server.get()).status == 200


async def test_one_client_cannot_take_every_connection() -> None:
    async with served(ConnectionLimits(connections=100, client_connections=2)) as server:
        held = [await server.open() for _ in range(2)]
        await eventually(lambda: server.door.inside == 2, what="two inside")
        assert Answered(await server.exchange(b"")).status == 503
        for _, each in held:
            each.close()


async def test_pipelined_requests_are_answered_each() -> None:
    async with served(QUICK) as server:
        said = await server.exchange((HEAD + b"\r\n") * 20 + HEAD + b"Connection: close\r\n\r\n")
        assert said.count(b"HTTP/1.1 200") == 21


async def test_of_what_a_client_sends_ahead_little_is_parsed_before_its_turn() -> None:
    """A small request takes a hundred times its bytes, and this is before the guard has seen it."""
    async with served(QUICK) as server:
        reader, writer = await server.open()
        writer.write(SLOW * 20 + SMALL * 3000)
        answered = most = 0
        while answered < 3020:
            most = max(most, server.waiting)
            answered += (await reader.readuntil(b"\r\n\r\n")).count(b"HTTP/1.1 200")
            await reader.readexactly(1)
        writer.close()
        assert 0 < most <= 120
        assert server.refused == {}


async def test_what_a_client_sends_further_ahead_is_not_read() -> None:
    """Else the bytes would fill the memory, parsed or not."""
    async with served(QUICK) as server:
        _, writer = await server.open()
        writer.write(SLOW.replace(b"/slow", b"/slower") + SMALL * 2_000_000)
        await eventually(lambda: server.waiting > 0, what="requests that wait")
        await asyncio.sleep(0.3)
        assert writer.transport.get_write_buffer_size() > 20_000_000, "what the kernel does not take either"
        writer.transport.abort()
        await eventually(lambda: server.door.inside == 0, what="the client to be out")


async def test_what_waits_for_its_turn_is_not_too_slow() -> None:
    """Heads and bodies are timed while they are waited for, not while an earlier request is answered."""
    body = b"x" * 4000
    post = HEAD.replace(b"GET", b"POST") + b"Content-Length: 4000\r\n\r\n"
    async with served(QUICK) as server:
        reader, writer = await server.open()
        writer.write(SLOW * 30 + post + body + HEAD + b"Connection: close\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 20)
        assert said.count(b"HTTP/1.1 200") == 32
        assert b"4000" in said
        writer.close()
        assert server.refused == {}


async def test_a_body_that_was_begun_ahead_and_never_ends_is_given_up_in_time() -> None:
    async with served(QUICK) as server:
        reader, writer = await server.open()
        writer.write(SLOW * 3 + HEAD.replace(b"GET", b"POST") + b"Content-Length: 4000\r\n\r\nx")
        said = await asyncio.wait_for(reader.read(), 20)
        assert said.count(b"HTTP/1.1 200") == 3
        assert b"body did not come in time" in said
        writer.close()
