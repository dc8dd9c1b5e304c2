"""Requests over core NATS: every one is answered, refusals in their own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from libs.bus.connection import ERROR_CODE, Bus
from libs.bus.endpoints import Gate, Handler, Request, Waiting, listening, micro_service
from libs.bus.errors import ApiRefused
from libs.bus.loop import MessageLoop, Postpone
from libs.contracts.journal import Position
from libs.contracts.refusals import Conflict, LimitReached, NotFound, Refusal, RefusalBody, Unavailable
from tests.bus.support import Noted
from tests.support.eventually import eventually

Handle = Callable[[Position, Request], Awaitable[bytes | None]]
Serve = Callable[[Bus, Handle, Noted], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def plainly(bus: Bus, handle: Handle, noted: Noted) -> AsyncIterator[None]:
    loop = MessageLoop("here", msgspec.json.Decoder(Position).decode, handle, noted)
    async with Gate() as gate, listening(bus, "svc.here", loop, gate):
        yield


@asynccontextmanager
async def as_micro_service(bus: Bus, handle: Handle, noted: Noted) -> AsyncIterator[None]:
    endpoints: dict[str, tuple[type, Handler[Any]]] = {"here": (Position, handle)}
    async with Gate() as gate, micro_service(bus, "svc", "1.2.3", "A test", "svc", endpoints, noted, gate):
        yield


both = pytest.mark.parametrize("serve", [plainly, as_micro_service])


async def ask(bus: Bus, timeout: float = 30.0) -> Position:
    return await bus.ask("svc.here", Position(sequence=1), Position, timeout=timeout)


def raising(error: Exception) -> Handle:
    async def handle(_: Position, __: Request) -> bytes | None:
        raise error

    return handle


async def double(message: Position, _: Request) -> bytes:
    return msgspec.json.encode(Position(sequence=2 * message.sequence))


@both
async def test_a_request_is_answered(bus: Bus, serve: Serve) -> None:
    noted = Noted()
    async with serve(bus, double, noted):
        assert await ask(bus) == Position(sequence=2)
        await eventually(lambda: noted.outcomes == ["done"])


TEXTS = [
    "Persona not found: x",
    "  Persona not found:  ü \t",
    "Persona not found: \u3000日本\u2028\U0001f600 ",
    'Persona not found: "quoted" \\ and: colons, %2F',
    "Persona not found: a\r\nNats-Service-Error-Code: 200\r\n\r\nb",
    "",
]


@both
@pytest.mark.fact("2.4")
@pytest.mark.parametrize("text", TEXTS)
async def test_a_refusal_crosses_the_bus_to_the_letter(bus: Bus, serve: Serve, text: str) -> None:
    noted = Noted()
    async with serve(bus, raising(Conflict(text)), noted):
        with pytest.raises(Refusal) as raised:
            await ask(bus)
        await eventually(lambda: noted.outcomes == ["refused"])
    assert (type(raised.value), raised.value.status, raised.value.detail) == (Conflict, 409, text)


@both
async def test_an_undecodable_request_is_refused_as_the_asker_s_fault(bus: Bus, serve: Serve) -> None:
    noted = Noted()
    async with serve(bus, double, noted):
        for body in (b"", b"{}", b"\xff", b'{"sequence": "one"}'):
            message = await bus.client.request("svc.here", body, timeout=30)
            assert message.headers is not None
            assert message.headers[ERROR_CODE] == "400"
            refusal = msgspec.json.decode(message.data, type=RefusalBody)
            assert (refusal.status, refusal.detail.startswith("undecodable")) == (400, True)
        await eventually(lambda: noted.outcomes == ["dead"] * 4)
        assert await ask(bus) == Position(sequence=2), "the next one is answered"


@both
@pytest.mark.fact("5.2")
async def test_a_handler_that_fails_makes_the_service_unavailable(bus: Bus, serve: Serve) -> None:
    async with serve(bus, raising(KeyError("gone")), Noted()):
        with pytest.raises(Unavailable, match=r"KeyError: 'gone'") as raised:
            await ask(bus)
    assert (raised.value.status, raised.value.retry_after) == (503, 1)


@both
@pytest.mark.fact("5.2")
async def test_an_answer_that_is_too_large_is_refused_and_the_next_one_is_given(
    bus: Bus, serve: Serve
) -> None:
    """The broker would end the connection over it; headers count, too."""
    most = bus.client.max_payload
    too_large: list[Handle] = [
        answering(b"x" * (most + 1)),
        raising(NotFound("x" * most)),
        raising(NotFound("x" * (most // 2))),  # once in the body, and once in a header
        raising(KeyError("x" * (most // 2))),
    ]
    for handle in too_large:
        noted = Noted()
        async with serve(bus, handle, noted):
            for _ in range(2):
                with pytest.raises(Refusal, match=f"^The answer is too large .* is {most}") as said:
                    await ask(bus)
                assert (said.value.status, said.value.detail.endswith("ask for less")) == (400, True)
        assert len(noted.outcomes) == 2
    assert bus.connected and not bus.lost.done()
    async with serve(bus, answering(b'{"sequence":2}' + b" " * (most - 14)), Noted()):
        assert await ask(bus) == Position(sequence=2), "as much as there is room for"


def answering(data: bytes) -> Handle:
    async def handle(_: Position, __: Request) -> bytes | None:
        return data

    return handle


async def test_a_question_that_is_too_large_is_refused_and_the_connection_stays(bus: Bus) -> None:
    most = bus.client.max_payload
    async with plainly(bus, double, Noted()):
        for size in (most, 2 * most):
            body = RefusalBody(400, "x" * size)
            with pytest.raises(LimitReached, match=f"^The question is too large .*max_payload is {most}"):
                await bus.ask("svc.here", body, Position)
            with pytest.raises(ApiRefused, match=f"max_payload is {most}") as refused:
                await bus.api("STREAM.INFO.JOURNAL", {"deleted_details": "x" * size})
            assert refused.value.status == 413
            with capture_logs() as logs:
                await bus.note("svc.here", body)
            assert [line["event"] for line in logs] == ["note_not_sent"]
        assert await ask(bus) == Position(sequence=2)
    assert bus.connected and not bus.lost.done()


@both
async def test_a_handler_that_cannot_now_makes_the_service_unavailable(bus: Bus, serve: Serve) -> None:
    async with serve(bus, raising(Postpone("taking over")), Noted()):
        with pytest.raises(Unavailable, match=r"^taking over$"):
            await ask(bus)


@both
async def test_requests_are_handled_side_by_side(bus: Bus, serve: Serve) -> None:
    together = asyncio.Barrier(20)

    async def meet(message: Position, _: Request) -> bytes:
        await together.wait()
        return msgspec.json.encode(message)

    async with serve(bus, meet, Noted()):
        assert len(await asyncio.gather(*[ask(bus) for _ in range(20)])) == 20


@both
async def test_what_was_admitted_is_answered_before_the_service_ends(bus: Bus, serve: Serve) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def slow(message: Position, _: Request) -> bytes:
        began.set()
        await go.wait()
        return msgspec.json.encode(message)

    async with serve(bus, slow, Noted()):
        asking = asyncio.create_task(ask(bus))
        await began.wait()
        asyncio.get_running_loop().call_later(0.2, go.set)
    assert await asking == Position(sequence=1)
    with pytest.raises(Unavailable):
        await ask(bus, timeout=0.2)


async def test_a_note_wants_no_answer(bus: Bus) -> None:
    noted = Noted()
    async with plainly(bus, raising(NotFound("nobody reads this")), noted):
        await bus.note("svc.here", Position(sequence=1))
        await eventually(lambda: noted.outcomes == ["refused"])


async def test_a_handler_may_leave_a_request_unanswered(bus: Bus) -> None:
    async def silent(_: Position, __: Request) -> None:
        return None

    noted = Noted()
    async with plainly(bus, silent, noted):
        with pytest.raises(Unavailable, match="no answer"):
            await ask(bus, timeout=0.3)
        await eventually(lambda: noted.outcomes == ["done"])


async def test_of_a_queue_group_one_answers(bus: Bus) -> None:
    seen: list[int] = []

    async def handle(message: Position, _: Request) -> bytes:
        seen.append(message.sequence)
        return msgspec.json.encode(message)

    loop = MessageLoop("here", msgspec.json.Decoder(Position).decode, handle, Noted())
    async with (
        Gate() as gate,
        listening(bus, "svc.here", loop, gate, queue="q"),
        listening(bus, "svc.here", loop, gate, queue="q"),
    ):
        for _ in range(10):
            await ask(bus)
    assert len(seen) == 10


async def test_a_wildcard_stands_for_any_one_token(bus: Bus) -> None:
    seen: list[str] = []

    async def handle(message: Position, request: Request) -> bytes:
        seen.append(request.subject)
        return msgspec.json.encode(message)

    loop = MessageLoop("here", msgspec.json.Decoder(Position).decode, handle, Noted())
    async with Gate() as gate, listening(bus, "svc.*", loop, gate):
        await bus.ask("svc.one", Position(sequence=1), Position, timeout=30)
        await bus.ask("svc.=41", Position(sequence=1), Position, timeout=30)
        with pytest.raises(Unavailable):
            await bus.ask("svc.one.two", Position(sequence=1), Position, timeout=0.2)
    assert seen == ["svc.one", "svc.=41"]


@pytest.mark.parametrize("listened", ["svc.here", "svc.*"])
async def test_what_the_broker_delivers_of_a_stream_is_left_with_wildcards_too(
    bus: Bus, listened: str
) -> None:
    """It comes as the subject under which it is stored, whatever its maker calls it."""
    noted = Noted()
    loop = MessageLoop("here", msgspec.json.Decoder(Position).decode, double, noted)
    async with Gate() as gate, listening(bus, listened, loop, gate):
        await bus.client.subscribe("svc.here")  # the broker delivers only where somebody listens literally
        await bus.publish("inbox.3.p", b'{"sequence": 1}')
        config = {"name": "c", "deliver_subject": "svc.here", "deliver_policy": "all", "ack_policy": "none"}
        with capture_logs() as logs:
            await bus.api("CONSUMER.CREATE.INBOX.c", {"stream_name": "INBOX", "config": config})
            await eventually(lambda: [line["event"] for line in logs] == ["misdelivered"])
    assert noted.outcomes == []


@both
@pytest.mark.parametrize("to", ["svc.other", "inbox.3.p", "_INBOX", "_INBOXES.*", "_INBOX.>", "_INBOX.a.>"])
async def test_an_answer_goes_to_an_inbox_and_nowhere_else(bus: Bus, serve: Serve, to: str) -> None:
    """Whoever asks names it: it could be a subject where this process may publish, and the asker may not."""
    noted, came = Noted(), list[bytes]()

    async def take(message: Any) -> None:
        came.append(message.data)

    await bus.client.subscribe("svc.other", cb=take)
    await bus.client.subscribe("_INBOX.>", cb=take)
    async with serve(bus, double, noted):
        with capture_logs() as logs:
            await bus.client.publish("svc.here", b'{"sequence": 1}', reply=to)
            await eventually(lambda: noted.outcomes == ["done"])
        assert await ask(bus) == Position(sequence=2)
        assert [line["to"] for line in logs if line["event"] == "answer_not_sent"] == [to]
    assert came == []


async def test_what_waits_for_a_gate_is_bounded(bus: Bus) -> None:
    go, noted, faults = asyncio.Event(), Noted(), list[str]()

    async def wait(_: Position, __: Request) -> None:
        await go.wait()

    async def fault(error: Exception) -> None:
        faults.append(type(error).__name__)

    bus.client._error_cb = fault
    loop = MessageLoop("here", msgspec.json.Decoder(Position).decode, wait, noted)
    async with Gate(1) as gate, listening(bus, "svc.*", loop, gate, waiting=Waiting(messages=4)):
        for _ in range(20):
            await bus.client.publish("svc.here", b'{"sequence": 1}')
        await bus.client.flush()
        await eventually(lambda: len(faults) >= 20 - 4 - 2, what="what there is no room for dropped")
        go.set()
        await eventually(lambda: len(noted.outcomes) + len(faults) == 20)
    assert set(faults) == {"SlowConsumerError"}
    assert noted.outcomes


async def test_a_gate_admits_no_more_than_its_limit() -> None:
    now = most = 0
    go = asyncio.Event()

    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1

    async with Gate(2) as gate:
        admitting = [asyncio.create_task(gate.admit(work())) for _ in range(5)]
        await eventually(lambda: now == 2)
        assert gate.admitted == 2
        assert not await gate.idle(0.05)
        go.set()
        await asyncio.gather(*admitting)
        assert await gate.idle(30)
    assert (most, gate.admitted) == (2, 0)
