"""A thought that is due, as its shard's owner holds it until it is settled. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from libs.cognition.context import Remembered, packed
from libs.contracts.work import ContextLine, TakenItem, Ticket, WorkItem
from services.scheduler.tracing import ThoughtTrace


class Due(Struct, frozen=True):
    """One persona's next thought; what it is told was frozen when its tick began [3.5]."""

    bare: WorkItem
    """What everybody is told who thinks for it, also who reads nothing."""

    charter: str
    context: list[Remembered]
    inbox: list[TakenItem] = []
    shared: list[ContextLine] = []
    recent: tuple[bytes, ...] = ()
    trace: ThoughtTrace | None = None
    """Where it is traced."""

    @property
    def persona_id(self) -> str:
        """Whose thought it is."""
        return self.bare.persona_id

    def ticket(self) -> Ticket:
        """Return its name in the work queue."""
        return Ticket(self.bare.persona_id, self.bare.thought_count, self.bare.tick_at)

    def tried(self) -> WorkItem:
        """Return what a thought is made of that nobody could finish: its items were in the prompt."""
        return structs.replace(self.bare, inbox=self.inbox) if self.inbox else self.bare

    def whole(self) -> WorkItem:
        """Return what those are told that read, to be encoded."""
        return structs.replace(
            self.bare,
            charter=self.charter,
            context=packed(self.context),
            inbox=self.inbox,
            shared=self.shared,
            recent=list(self.recent),
        )


def traces_of(dues: Iterable[Due]) -> dict[str, str]:
    """Return the contexts of those that are traced, by persona."""
    return {due.bare.persona_id: due.trace.traceparent for due in dues if due.trace is not None}
