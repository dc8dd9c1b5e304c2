"""`perpetua deadletters`: what was given up, read from the broker, and tried once more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from libs.cli.broker import connected, prepare
from libs.cli.errors import CliError
from libs.contracts import streams
from libs.contracts.captures import Replayed
from libs.contracts.work import DeadLetter, GivenUp, WorkItem
from libs.settings.broker import BrokerSettings

if TYPE_CHECKING:
    from libs.bus.connection import Bus

T = TypeVar("T")

_BROKER_WITHIN_S = 5.0
_ANSWER_WITHIN_S = 900.0
_SHOWN_BYTES = 400
_TAKES_AGAIN = ("think.", "inbox.")
"""Subjects into which what was given up may be put again: nothing there hangs on the order."""


class Kept(Struct, frozen=True, kw_only=True):
    """A dead letter and its number: its place in the stream of dead letters."""

    number: int
    letter: DeadLetter

    @property
    def work(self) -> GivenUp | None:
        """The work that was given up, where that is what the letter holds."""
        if not self.letter.subject.startswith("think."):
            return None
        try:
            return msgspec.json.decode(self.letter.body, type=GivenUp)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    @property
    def about(self) -> str:
        """What it is about, in a few words."""
        work = self.work
        if work is None:
            return f"{len(self.letter.body)} bytes that cannot be read"
        return ", ".join(f"{item.persona_id} #{item.thought_count}" for item in work.items)

    def plain(self) -> dict[str, Any]:
        """Return everything for programs."""
        work = self.work
        plain: dict[str, Any] = msgspec.to_builtins(self.letter) | {
            "number": self.number,
            "thoughts": None if work is None else msgspec.to_builtins([_named(i) for i in work.items]),
        }
        return plain


def letters(broker: BrokerSettings) -> list[Kept]:
    """Return every dead letter that is kept, oldest first. Raises `CliError`."""
    return _with_bus(broker, _letters)


def letter(broker: BrokerSettings, number: int) -> Kept:
    """Return one dead letter. Raises `CliError` where there is none of that number."""

    async def find(bus: Bus) -> Kept:
        from libs.bus.read import message_at

        found = await message_at(bus, streams.DEAD_LETTERS, number)
        kept = _kept(number, found.data) if found is not None else None
        if kept is None:
            raise CliError(
                f"no dead letter has number {number}; `perpetua deadletters list` shows those kept"
            )
        return kept

    return _with_bus(broker, find)


def deliver_again(broker: BrokerSettings, kept: Kept) -> None:
    """Publish what was set aside where it came from, and forget the letter. Raises `CliError`."""
    if not kept.letter.subject.startswith(_TAKES_AGAIN):
        raise CliError(
            f"{kept.letter.subject} is a journal: its records stand in an order that nothing can be put into "
            "again. The letter is kept for reading"
        )

    if kept.letter.cut:
        raise CliError(
            f"letter {kept.number} holds only the beginning of what was given up ({kept.letter.reason}): "
            "it cannot be delivered again"
        )

    async def deliver(bus: Bus) -> None:
        from libs.bus.queue import purge_message

        await bus.publish(kept.letter.subject, kept.letter.body)
        if not await purge_message(bus, streams.DEAD_LETTERS, kept.number):
            raise CliError(
                "delivered, but the letter could not be removed; look with `perpetua deadletters list` "
                "before trying again: a second retry delivers it once more"
            )

    _with_bus(broker, deliver)


def think_again(item: WorkItem) -> Replayed:
    """Have a thought that was given up thought in a process of its own, by this command's settings.

    Raises `CliError` where that process ends without an answer, as thinkers did, or gives none in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "services.thinker.replay", "--item"],
            input=msgspec.json.encode(item),
            env=dict(os.environ),
            capture_output=True,
            timeout=_ANSWER_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CliError(
            f"thought {item.thought_count} of {item.persona_id} has no answer after {_ANSWER_WITHIN_S:g} s; "
            "what thought of it was ended"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        raise CliError(
            f"thought {item.thought_count} of {item.persona_id} ends what thinks of it again ({how})"
            + (f": {said[-1]}" if said else "")
        )
    return msgspec.json.decode(done.stdout, type=Replayed)


def body_of(kept: Kept) -> str:
    """Return the beginning of a letter's body, for people."""
    body = kept.letter.body
    text = body[:_SHOWN_BYTES].decode(errors="backslashreplace")
    return text + (f" … ({len(body)} bytes)" if len(body) > _SHOWN_BYTES else "")


def _named(item: WorkItem) -> dict[str, Any]:
    return {"persona_id": item.persona_id, "swarm_id": item.swarm_id, "thought_count": item.thought_count}


def _kept(number: int, data: bytes) -> Kept | None:
    try:
        return Kept(number=number, letter=msgspec.json.decode(data, type=DeadLetter))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _letters(bus: Bus) -> list[Kept]:
    from libs.bus.read import next_of

    found: list[Kept] = []
    number = 0
    while (stored := await next_of(bus, streams.DEAD_LETTERS, ">", number + 1)) is not None:
        number = stored.sequence
        kept = _kept(number, stored.data)
        if kept is not None:
            found.append(kept)
    return found


def _with_bus(broker: BrokerSettings, work: Callable[[Bus], Awaitable[T]]) -> T:
    prepare()
    return asyncio.run(_asked(broker, work))


async def _asked(broker: BrokerSettings, work: Callable[[Bus], Awaitable[T]]) -> T:
    async with connected(broker, "perpetua-letters", _BROKER_WITHIN_S) as bus:
        return await work(bus)
