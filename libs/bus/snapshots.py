"""A stream as an archive and back, by JetStream's snapshot API. The archive's form is the broker's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import IO, Any

import msgspec
import nats.errors
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, BusError, NoAnswer

CHUNK_BYTES = 128 * 1024
_CHUNK_WITHIN_S = 30.0
_API_WITHIN_S = 60.0


class BrokenSnapshot(BusError):
    """The broker ended a snapshot with an error."""

    def __init__(self, stream: str, said: str) -> None:
        super().__init__(f"the snapshot of {stream} broke off: {said}")


async def save(bus: Bus, stream: str, into: IO[bytes]) -> dict[str, Any]:
    """Write a stream's archive into a file and return its `config` and `state` at that moment.

    Raises `ApiRefused`, `NoAnswer` or `BrokenSnapshot`; what is written by then is worth nothing.
    """
    async with bus.inbox() as (inbox, arrived):
        request = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "no_consumers": False}
        described = await bus.api(f"STREAM.SNAPSHOT.{stream}", request, timeout=_API_WITHIN_S)
        while chunk := await _next(arrived, stream):
            into.write(chunk.data)
            if chunk.reply:
                await bus.client.publish(chunk.reply, b"")
        return {"config": described["config"], "state": described["state"]}


async def _next(arrived: asyncio.Queue[Msg], stream: str) -> Msg | None:
    """Return the next chunk, or None after the last."""
    try:
        async with asyncio.timeout(_CHUNK_WITHIN_S):
            message = await arrived.get()
    except TimeoutError:
        raise BrokenSnapshot(stream, f"nothing came for {_CHUNK_WITHIN_S:g} s") from None
    if message.data:
        return message
    status = (message.headers or {}).get("Status", "204")
    if not status.startswith("204"):
        raise BrokenSnapshot(stream, f"{status} {(message.headers or {}).get('Description', '')}".strip())
    return None


async def bring_back(bus: Bus, described: dict[str, Any], chunks: Iterable[bytes]) -> dict[str, Any]:
    """Make a stream again from its archive and return its state. Raises `ApiRefused` or `NoAnswer`.

    A stream of that name must not exist. Until the last chunk there is none that anybody could see.
    """
    stream = described["config"]["name"]
    answer = await bus.api(f"STREAM.RESTORE.{stream}", described, timeout=_API_WITHIN_S)
    subject = answer["deliver_subject"]
    for chunk in chunks:
        refused = await _send(bus, subject, chunk)
        if refused:
            _raise_refusal(stream, refused)
    done = msgspec.json.decode(await _send(bus, subject, b""))
    if "error" in done:
        _raise_refusal(stream, msgspec.json.encode(done))
    state: dict[str, Any] = done["state"]
    return state


async def _send(bus: Bus, subject: str, chunk: bytes) -> bytes:
    try:
        return bytes((await bus.client.request(subject, chunk, timeout=_CHUNK_WITHIN_S)).data)
    except (nats.errors.Error, TimeoutError) as error:
        raise NoAnswer(subject, str(error) or type(error).__name__) from error


def _raise_refusal(stream: str, answer: bytes) -> None:
    """Raise what an answer says to a chunk; an answer that is no error is the broker's `go on`."""
    try:
        said = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        return
    if isinstance(said, dict) and (error := said.get("error")):
        raise ApiRefused(
            f"STREAM.RESTORE.{stream}",
            error.get("code", 500),
            error.get("err_code", 0),
            error.get("description", ""),
        )
