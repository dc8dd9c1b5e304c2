"""Whatever happens to chunks, one thought is in flight a persona [3.2]."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from libs.contracts.work import Chunk, GrantRequest
from services.scheduler.dispatches import Dispatches
from tests.unit.make import chunk, entry

PERSONAS = st.sampled_from("abcde")
NAMES = st.lists(PERSONAS, min_size=1, max_size=4, unique=True)


class Table(RuleBasedStateMachine):
    """Chunks are begun, found again, copied in the queue, granted, settled, dropped and withdrawn."""

    chunks: Bundle[Chunk] = Bundle("chunks")

    def __init__(self) -> None:
        super().__init__()
        self.table = Dispatches()
        self.queue: list[tuple[int, Chunk]] = []
        self.granted: dict[str, int] = {}
        """The one place of the queue at which a chunk was ever granted."""

    @rule(
        target=chunks,
        personas=st.lists(PERSONAS, min_size=1, max_size=4, unique=True),
        copies=st.integers(1, 3),
    )
    def dispatch(self, personas: list[str], copies: int) -> Chunk:
        work = chunk(f"c{len(self.queue)}", *personas)
        self.table.begin(*entry(work), 0.0)
        self.queue += [(len(self.queue) + copy, work) for copy in range(copies)]
        return work

    @rule()
    def take_over(self) -> None:
        """A new owner enters what the queue still holds, copies too."""
        wanted = {dispatch.chunk.id for dispatch in self.table.all()}
        self.table = Dispatches()
        self.granted = {}
        for sequence, work in self.queue:
            if work.id in wanted:
                self.table.begin(*entry(work), 0.0, sequence)

    @rule(data=st.data(), thinker=st.sampled_from(["t1", "t2"]), run=st.sampled_from([1, 1, 1, 2, None]))
    def grant(self, data: st.DataObject, thinker: str, run: int | None) -> None:
        if not self.queue:
            return
        sequence, work = data.draw(st.sampled_from(self.queue))
        request = GrantRequest(chunk=work.id, shard=0, sequence=sequence, deliveries=1, thinker=thinker)
        granted = self.table.grant(request, run, 1.0, -inf).dues
        if granted:
            assert self.granted.setdefault(work.id, sequence) == sequence, "a second copy was granted"
        for index, due in granted.items():
            assert self.table.due(work.items[index].persona_id) is due
            assert due.ticket() == work.items[index]

    @rule(personas=st.lists(PERSONAS, max_size=3))
    def settle(self, personas: list[str]) -> None:
        self.table.forget(personas)
        assert not any(self.table.in_flight(name) for name in personas)

    @rule()
    def withdraw(self) -> None:
        dropped = self.table.drop_ungranted(1)
        assert all(dispatch.granted_to is None for dispatch in dropped)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if held := self.table.all():
            self.table.drop(data.draw(st.sampled_from(held)))

    @invariant()
    def at_most_one_thought_is_in_flight_a_persona(self) -> None:
        waiting = [name for dispatch in self.table.all() for name in dispatch.waiting]
        assert len(waiting) == len(set(waiting))
        assert {name for name in "abcde" if self.table.in_flight(name)} == set(waiting), "nobody is stuck"
        assert len(self.table) == len(waiting)


TestTable = pytest.mark.fact("3.2")(Table.TestCase)
TestTable.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
