"""Publishing to streams until each message is known to be stored, or refused because there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from libs.bus.connection import Bus
from libs.bus.errors import NoAnswer, OutcomeUnknown, SubjectFull, WrongLastSequence
from libs.bus.patience import Patience
from libs.contracts.refusals import Unavailable

_WITHIN_S = 8.0

Message = tuple[str, bytes]
"""Subject and body."""


async def store(
    bus: Bus, what: str, messages: Sequence[Message], headers: Mapping[str, str] | None = None
) -> dict[str, SubjectFull]:
    """Publish messages side by side; return, by subject, which of them a stream has no room for.

    One whose outcome is unknown is published again as it is. So it may be stored twice, unless `headers`
    expect that there is none; one that is there already counts as stored. Raises `Unavailable` when the
    broker does not answer for 8 s.
    """
    full: dict[str, SubjectFull] = {}
    left = list(messages)
    clock = asyncio.get_running_loop().time
    give_up = clock() + _WITHIN_S
    with Patience(bus, f"storing {what}") as patience:
        while True:
            left, error = await _try(bus, left, headers, full)
            if error is None:
                return full
            if clock() >= give_up:
                raise Unavailable(f"nobody knows whether {what} is stored: {error}")
            await patience.pause(error)


async def _try(
    bus: Bus, messages: list[Message], headers: Mapping[str, str] | None, full: dict[str, SubjectFull]
) -> tuple[list[Message], NoAnswer | None]:
    """Publish each once; return those of which nobody knows, and why. Raises what else refuses one."""
    sent: list[asyncio.Future[int]] = []
    unknown: NoAnswer | None = None
    for subject, data in messages:
        try:
            sent.append(await bus.publisher.send(subject, data, headers))
        except OutcomeUnknown as error:
            unknown = error
            break
    left = messages[len(sent) :]
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    for message, outcome in zip(messages, outcomes, strict=False):
        if isinstance(outcome, OutcomeUnknown):
            unknown = outcome
            left.append(message)
        elif isinstance(outcome, SubjectFull):
            full[message[0]] = outcome
        elif isinstance(outcome, BaseException) and not isinstance(outcome, WrongLastSequence):
            raise outcome
    return left, unknown
