"""A thought that is due, as its shard's owner holds it until it is settled. Pure."""

from __future__ import annotations

from msgspec import Struct, structs

from libs.cognition.context import Remembered, packed
from libs.contracts.work import Ticket, WorkItem


class Due(Struct, frozen=True):
    """One persona's next thought, its context frozen when its tick began [3.5]."""

    bare: WorkItem
    """What everybody is told: without charter and context."""

    charter: str
    context: list[Remembered]

    @property
    def persona_id(self) -> str:
        """Whose thought it is."""
        return self.bare.persona_id

    def ticket(self) -> Ticket:
        """Return its name in the work queue."""
        return Ticket(self.bare.persona_id, self.bare.thought_count, self.bare.tick_at)

    def whole(self) -> WorkItem:
        """Return what those are told that read charters and contexts, to be encoded."""
        return structs.replace(self.bare, charter=self.charter, context=packed(self.context))
