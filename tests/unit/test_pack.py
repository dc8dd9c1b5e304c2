"""Work in chunks, and grants within their bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.context import Recent
from libs.contracts.limits import CHUNK_PERSONAS, GRANT_BYTES, RECORD_BYTES
from libs.contracts.work import ContextLine, Grant, WorkItem
from services.scheduler.dispatching import chunk_of, in_chunks
from services.scheduler.due import Due
from services.scheduler.handlers import answer
from tests.unit.make import NOW, due, item, line

_decode = msgspec.json.Decoder(Grant).decode


def heavy(name: str, kilobytes: int) -> Due:
    return due(name, charter="x" * (1024 * kilobytes))


def told(dues: dict[int, Due], *, reads: bool = True) -> list[tuple[bytes, Grant]]:
    """All answers that a thinker gets which asks until it has everything."""
    answers: list[tuple[bytes, Grant]] = []
    begin = 0
    while not answers or begin:
        data = answer({index: one for index, one in dues.items() if index >= begin}, reads=reads)
        answers.append((data, _decode(data)))
        begin = answers[-1][1].next
    return answers


SOME = st.sets(st.integers(0, CHUNK_PERSONAS - 1))


@given(st.lists(st.sampled_from([0, 1, 8, 40, 300]), max_size=CHUNK_PERSONAS), SOME)
def test_every_thought_is_told_once_in_order_in_grants_within_their_bounds(
    weights: list[int], stored: set[int]
) -> None:
    """Also where some of a chunk's thoughts are no longer wanted."""
    dues = {n: heavy(f"p{n}", weight) for n, weight in enumerate(weights) if n not in stored}
    answers = told(dues)
    assert [item for _, grant in answers for item in grant.items] == [one.whole() for one in dues.values()]
    assert all(len(data) <= GRANT_BYTES + 1024 for data, _ in answers)


def test_who_reads_nothing_is_told_neither_charter_nor_context() -> None:
    recent = Recent()
    recent.add((1, 1), line(1))
    bare = msgspec.structs.replace(item("ann", 3), charter="", context_events=1)
    ((_, grant),) = told({0: Due(bare, "Watch.", recent)}, reads=False)
    assert grant.items == [bare]
    ((_, grant),) = told({0: Due(bare, "Watch.", recent)})
    assert (grant.items[0].charter, grant.items[0].context) == ("Watch.", [line(1)])


def test_thoughts_share_chunks() -> None:
    dues = [due(f"p{n}") for n in range(2 * CHUNK_PERSONAS + 2)]
    chunks = [chunk_of(3, 7, some) for some in in_chunks(dues)]
    assert [len(chunk.items) for chunk in chunks] == [CHUNK_PERSONAS, CHUNK_PERSONAS, 2]
    assert [ticket for chunk in chunks for ticket in chunk.items] == [one.ticket() for one in dues]
    assert {(chunk.shard, chunk.run) for chunk in chunks} == {(3, 7)}
    assert len({chunk.id for chunk in chunks}) == 3
    assert in_chunks([]) == []


@pytest.mark.fact("2.6")
def test_the_largest_personas_fit_a_chunk_and_a_grant() -> None:
    """Longest id, name, role, charter and context, in the characters that JSON makes longest."""
    widest = "\x01" * 200
    context = Recent()
    for number in range(8):
        shown = ContextLine("snapshot_compressed", "2026-01-02T03:04:05.678901Z", "\x01" * 223)
        context.add((1, number), shown)
    bare = WorkItem("\\" * 128, widest, widest, "", "\\" * 128, 2**63, NOW, [], 8)
    largest = Due(bare, "\x01" * 8000, context)
    assert len(msgspec.json.encode(chunk_of(0, 1, [largest] * CHUNK_PERSONAS))) <= RECORD_BYTES
    answers = told(dict.fromkeys(range(CHUNK_PERSONAS), largest))
    assert sum(len(grant.items) for _, grant in answers) == CHUNK_PERSONAS
    assert all(len(data) <= GRANT_BYTES + 1024 for data, _ in answers)
