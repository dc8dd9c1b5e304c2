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
_BUSY_WITHIN_S = 2.0
_OTHERS_WITHIN_S = 0.05


async def ask_schedulers(bus: Bus, *, living: int = 0) -> list[SchedulerStatus]:
    """Return the statuses of the schedulers that answer; `living` is how many are known to be there.

    Waits half a second for the first answer, two where somebody lives, who may be busy; and once that many
    have come, no longer. A dead process does not answer, so nothing is ever told of it. Without any scheduler
    the broker says so at once. While the broker itself is away nobody answers either.
    """
    answers: list[SchedulerStatus] = []
    async with bus.inbox() as (inbox, arrived):
        with suppress(TimeoutError, nats.errors.Error):
            await bus.client.publish(subjects.SCHEDULER_STATUS, b"", reply=inbox)
            while len(answers) < max(living, 1):
                first = _BUSY_WITHIN_S if living else _ANSWER_WITHIN_S
                async with asyncio.timeout(_OTHERS_WITHIN_S if answers else first):
                    message = await arrived.get()
                if (message.headers or {}).get("Status") is not None:
                    break
                with suppress(*UNREADABLE):  # nobody of ours
                    answers.append(_decode(message.data))
    return answers
