"""Every message ends in exactly one outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from libs.bus.follow import StreamMessage
from libs.bus.loop import Dead, Done, Fatal, MessageLoop, Outcome, Postpone, Refused, RetryLater
from libs.bus.telemetry import BusFault, MessageHandled
from libs.contracts.journal import Position
from libs.contracts.refusals import NotFound


class Delivered:
    """A delivery that remembers how it was settled."""

    subject = "s"

    def __init__(self, data: bytes = b'{"sequence":1}') -> None:
        self.data = data
        self.outcomes: list[Outcome] = []

    async def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Noted:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.details: list[MessageHandled] = []

    def handled(self, details: MessageHandled) -> None:
        self.details.append(details)

    def fault(self, details: BusFault) -> None:
        raise AssertionError(details)


Handle = Callable[[Position, Any], Awaitable[bytes | None]]


async def settled(handle: Handle, delivered: Delivered | None = None) -> Outcome:
    noted, delivery = Noted(), delivered or Delivered()
    loop = MessageLoop("test", msgspec.json.Decoder(Position).decode, handle, noted)
    await loop.process(delivery)
    (outcome,) = delivery.outcomes
    (details,) = noted.details
    assert (details.loop, details.outcome) == ("test", outcome.kind)
    assert details.seconds >= 0
    return outcome


def raising(error: BaseException) -> Handle:
    async def handle(_: Position, __: Any) -> bytes | None:
        raise error

    return handle


async def test_what_is_handled_is_done() -> None:
    async def handle(message: Position, _: Any) -> bytes | None:
        return str(message.sequence).encode()

    assert await settled(handle) == Done(b"1")


async def test_a_refusal_is_refused_in_its_words() -> None:
    refusal = NotFound.persona("x")
    assert await settled(raising(refusal)) == Refused(refusal)


async def test_what_cannot_be_handled_now_is_retried_later() -> None:
    assert await settled(raising(Postpone("busy", after=7))) == RetryLater(7, "busy")


async def test_a_handler_that_fails_is_retried() -> None:
    assert await settled(raising(KeyError("gone"))) == RetryLater(1.0, "KeyError: 'gone'")


@pytest.mark.parametrize(
    "data", [b"", b"not json", b"{}", b'{"sequence":"x"}', b"\xff\xfe", b'{"sequence":"\xff"}']
)
async def test_what_cannot_be_decoded_is_dead_and_never_handled(data: bytes) -> None:
    outcome = await settled(raising(AssertionError("handled")), Delivered(data))
    assert isinstance(outcome, Dead)
    assert outcome.reason.startswith("undecodable: ")


async def test_a_fatal_error_is_let_through() -> None:
    delivered = Delivered()
    loop = MessageLoop("test", msgspec.json.Decoder(Position).decode, raising(Fatal("over")), Noted())
    with pytest.raises(Fatal, match="over"):
        await loop.process(delivered)
    assert delivered.outcomes == []


@pytest.mark.parametrize("outcome", [RetryLater(1, "why"), Refused(NotFound("why"))])
async def test_an_ordered_read_cannot_skip_a_message(outcome: Outcome) -> None:
    message = StreamMessage("j.1", b"", 7, {}, 0)
    with pytest.raises(Fatal, match=r"message 7 on j\.1: why"):
        await message.settle(outcome)
    await message.settle(Done())
    await message.settle(Dead("nobody can read it, so it is nobody's"))
