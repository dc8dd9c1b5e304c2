"""From personas that are due to work in the queue: contexts are frozen, and thoughts go in chunks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown, PublishRefused
from libs.bus.patience import Patience
from libs.cognition.context import Recent
from libs.contracts import subjects
from libs.contracts.limits import CHUNK_PERSONAS
from libs.contracts.registry import PersonaRecord
from libs.contracts.work import Chunk, TakenItem, Ticket, WorkItem
from libs.roster.state import Roster
from services.scheduler.dispatches import Dispatch
from services.scheduler.due import Due, traces_of
from services.scheduler.ledger import PersonaLedger
from services.scheduler.memory import Memory
from services.scheduler.owner import ShardOwner
from services.scheduler.taking import Takes
from services.scheduler.tracing import ThoughtTrace, take_calls, traced

log = structlog.get_logger("dispatching")

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Dispatching:
    """Makes thoughts due and publishes them."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        shared: Callable[[], Recent],
        takes: Takes,
        memory: Memory,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._takes = takes
        self._memory = memory
        self._bus = bus
        self._roster = roster
        self._shared = shared
        self._tasks = tasks

    def begin(
        self,
        owner: ShardOwner,
        run: int,
        persona_ids: Iterable[str],
        at: datetime,
        echoes: Container[str] = (),
    ) -> None:
        """Make thoughts of a shard's personas due, at most a chunk of them, and publish them by a task.

        `echoes` are those of them whose cycle is about nothing but what others share.
        """
        now = asyncio.get_running_loop().time()
        dues = [
            self._next(self._roster.personas[name], owner, at, echo=name in echoes) for name in persona_ids
        ]
        dispatch = owner.dispatches.begin(chunk_of(owner.shard, run, dues), dues, now)
        self._tasks.create_task(self.publish(owner, dispatch), name="dispatch")

    def queued(self, ticket: Ticket, owner: ShardOwner, trace: str | None = None) -> Due | None:
        """Return the thought that a ticket in the queue names, where it is of a persona that there is.

        It goes on in the trace that the last owner had begun.
        """
        record = self._roster.personas.get(ticket.persona_id)
        return self._next(record, owner, ticket.tick_at, trace) if record is not None else None

    def _next(
        self,
        record: PersonaRecord,
        owner: ShardOwner,
        at: datetime,
        trace: str | None = None,
        *,
        echo: bool = False,
    ) -> Due:
        """Return a persona's next thought, its context frozen now."""
        identity, ledger = record.identity, owner.ledger
        persona_id = identity.id
        entry = ledger.persona(persona_id)
        entry.last_tick_at = at
        context = ledger.context(persona_id, self._shared())
        inbox = self._takes.of(entry) if entry.inbox is not None else []
        bare = WorkItem(
            persona_id,
            identity.name,
            identity.role,
            "",
            identity.swarm_id,
            entry.count + 1,
            at,
            [],
            len(context),
            shares=record.policy.share_memory,
            echo=echo,
        )
        recent = entry.life.recent if entry.life is not None else ()
        shared = self._memory.of(identity.swarm_id, persona_id)
        return Due(
            bare,
            identity.charter,
            context,
            inbox,
            shared,
            recent,
            self._traced(record, entry, inbox, trace) if self._bus.tracer is not None else None,
        )

    def _traced(
        self, record: PersonaRecord, entry: PersonaLedger, inbox: list[TakenItem], trace: str | None
    ) -> ThoughtTrace | None:
        assert self._bus.tracer is not None
        calls = take_calls(entry.inbox, inbox) if inbox and entry.inbox is not None else []
        first = [trace] if trace is not None else []
        return traced(self._bus.tracer, record.identity, entry.count + 1, first + calls)

    async def publish(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Put a chunk into the work queue. A copy that a repeated publish leaves is never granted."""
        data = _encode(dispatch.chunk)
        with Patience(self._bus, f"publishing work of shard {owner.shard}") as patience:
            while dispatch.waiting:
                try:
                    sequence = await self._bus.publish(subjects.think(owner.shard), data)
                except OutcomeUnknown as error:
                    await patience.pause(error)
                except PublishRefused as error:
                    log.warning("work_refused", shard=owner.shard, error=str(error))
                    owner.dispatches.abandon(dispatch)
                else:
                    if dispatch.granted_to is None:
                        dispatch.sequence = sequence
                    return


def chunk_of(shard: int, run: int, dues: Sequence[Due], *, alone: bool = False) -> Chunk:
    """Return thoughts as a message of the work queue."""
    tickets = [due.ticket() for due in dues]
    traces = traces_of(dues)
    return Chunk(id=secrets.token_hex(8), shard=shard, run=run, items=tickets, alone=alone, traces=traces)


def in_chunks(several: Sequence[T]) -> list[Sequence[T]]:
    """Return what belongs to one shard in parts that one chunk takes each, in order."""
    return [several[begin : begin + CHUNK_PERSONAS] for begin in range(0, len(several), CHUNK_PERSONAS)]
