"""Asking every scheduler what it does now: the only source of whether the loop is really running [4.3]."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import nats.errors

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.contracts import subjects
from libs.contracts.work import SchedulerStatus

_decode = msgspec.json.Decoder(SchedulerStatus).decode

_ANSWER_WITHIN_S = 0.5
_OTHERS_WITHIN_S = 0.05


async def ask_schedulers(bus: Bus, *, expected: int = 1) -> list[SchedulerStatus]:
    """Return the statuses of the schedulers that answer.

    Waits half a second for the first answer and, once `expected` have come, no longer; a dead process does
    not answer, so nothing is ever told of it. Without any scheduler the broker says so at once. While the
    broker itself is away nobody answers either.
    """
    answers: list[SchedulerStatus] = []
    async with bus.inbox() as (inbox, arrived):
        with suppress(TimeoutError, nats.errors.Error):
            await bus.client.publish(subjects.SCHEDULER_STATUS, b"", reply=inbox)
            while len(answers) < expected:
                wait = _OTHERS_WITHIN_S if answers else _ANSWER_WITHIN_S
                async with asyncio.timeout(wait):
                    message = await arrived.get()
                if (message.headers or {}).get("Status") is not None:
                    break
                with suppress(*UNREADABLE):  # nobody of ours
                    answers.append(_decode(message.data))
    return answers
