"""Reading single messages from a stream's leader, and batches from any replica."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, NoAnswer

_BATCH_TIMEOUT_S = 5.0
_END_OF_BATCH = "204"
_NOT_FOUND = "404"
_ANY = "*.>"
_PIECE_MESSAGES = 500
_PIECE_BYTES = 256 * 1024
_BEHIND_S = 0.1


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as its stream holds it."""

    subject: str
    sequence: int
    data: bytes
    headers: dict[str, str]
    time: str = ""
    """When the broker stored it, RFC 3339; of messages read from the leader."""


async def last_of(bus: Bus, stream: str, subject: str) -> Stored | None:
    """Return the last message of a subject, asked of the stream's leader."""
    return await _get(bus, stream, {"last_by_subj": subject})


async def next_of(bus: Bus, stream: str, subject: str, sequence: int) -> Stored | None:
    """Return the first message of a subject at or after a sequence, asked of the stream's leader."""
    return await _get(bus, stream, {"seq": max(sequence, 1), "next_by_subj": subject})


async def message_at(bus: Bus, stream: str, sequence: int) -> Stored | None:
    """Return the message under a sequence, asked of the stream's leader."""
    return await _get(bus, stream, {"seq": sequence})


async def stream_state(bus: Bus, stream: str) -> dict[str, Any]:
    """Return `messages`, `first_seq`, `last_seq` and more, asked of the stream's leader."""
    info = await bus.api(f"STREAM.INFO.{stream}")
    state: dict[str, Any] = info["state"]
    return state


async def subject_counts(bus: Bus, stream: str, subject: str) -> dict[str, int]:
    """Return how many messages each subject of a filter holds, asked of the stream's leader."""
    info = await bus.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    counts: dict[str, int] = info["state"].get("subjects") or {}
    return counts


async def batch(bus: Bus, stream: str, request: dict[str, Any]) -> list[Stored]:
    """Return what a direct get with `batch` yields, from any replica. Raises `NoAnswer`.

    The broker ends a batch with an empty message of status 204, or 404 where it holds nothing.
    """
    subject = f"$JS.API.DIRECT.GET.{stream}"
    found: list[Stored] = []
    async with bus.inbox() as (inbox, arrived):
        try:
            await bus.client.publish(subject, msgspec.json.encode(request), reply=inbox)
            async with asyncio.timeout(_BATCH_TIMEOUT_S):
                while True:
                    message = await arrived.get()
                    headers = message.headers or {}
                    status = headers.get("Status")
                    if status in (_END_OF_BATCH, _NOT_FOUND):
                        return found
                    if status is not None:
                        raise NoAnswer(subject, f"status {status.split()[0]}")
                    found.append(_direct(message, headers))
        except TimeoutError as error:
            raise NoAnswer(subject, f"nothing within {_BATCH_TIMEOUT_S:g} s") from error
        except nats.errors.Error as error:
            raise NoAnswer(subject, str(error)) from error


async def all_held(bus: Bus, stream: str) -> AsyncIterator[Stored]:
    """Yield what a stream holds, in order, up to the last message that its leader holds when asked.

    It comes in small pieces: acknowledgements, which share the connection, would wait behind large ones,
    until this process took the broker for dead, and others took this process for dead.
    """
    end = await last_of(bus, stream, _ANY)
    at = 0
    while end is not None and at < end.sequence:
        request = {"seq": at + 1, "batch": _PIECE_MESSAGES, "max_bytes": _PIECE_BYTES}
        found = await batch(bus, stream, request)
        for stored in found:
            at = stored.sequence
            yield stored
        if not found:  # a replica that is behind, or everything was evicted
            await asyncio.sleep(_BEHIND_S)
            end = await last_of(bus, stream, _ANY)


async def _get(bus: Bus, stream: str, body: dict[str, Any]) -> Stored | None:
    try:
        answer = await bus.api(f"STREAM.MSG.GET.{stream}", body)
    except ApiRefused as error:
        if error.not_found:
            return None
        raise
    message = answer["message"]
    return Stored(
        message["subject"],
        int(message["seq"]),
        base64.b64decode(message.get("data", "")),
        _headers(base64.b64decode(message.get("hdrs", ""))),
        message.get("time", ""),
    )


def _headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode().split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _direct(message: Msg, headers: dict[str, str]) -> Stored:
    return Stored(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data, headers)
