"""Work in chunks within their bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.limits import CHUNK_PERSONAS, RECORD_BYTES
from libs.contracts.work import Chunk, ContextLine, WorkItem
from services.scheduler.ticker import pack
from tests.unit.make import NOW, item

_decode = msgspec.json.Decoder(Chunk).decode


def heavy(name: str, kilobytes: int) -> WorkItem:
    return msgspec.structs.replace(item(name), charter="x" * (1024 * kilobytes))


@given(st.lists(st.sampled_from([0, 1, 8, 40, 300]), max_size=150))
def test_every_item_travels_once_in_order_in_chunks_within_their_bounds(weights: list[int]) -> None:
    items = [heavy(f"p{number}", weight) for number, weight in enumerate(weights)]
    packed = pack(3, 7, items)
    assert [entry for work, _ in packed for entry in work.items] == items
    for work, data in packed:
        assert _decode(data) == work
        assert (work.shard, work.run) == (3, 7)
        assert 1 <= len(work.items) <= CHUNK_PERSONAS
        assert len(data) <= RECORD_BYTES
    assert len({work.id for work, _ in packed}) == len(packed)


def test_light_items_share_chunks_of_64() -> None:
    assert [len(work.items) for work, _ in pack(0, 1, [item(f"p{n}") for n in range(130)])] == [64, 64, 2]
    assert pack(0, 1, []) == []


@pytest.mark.fact("2.6")
def test_the_largest_persona_fits_a_chunk_alone() -> None:
    """Longest id, name, role, charter and context, in the characters that JSON makes longest."""
    widest = "\x01" * 200
    context = [ContextLine("snapshot_compressed", "2026-01-02T03:04:05.678901Z", "\x01" * 223)] * 8
    largest = WorkItem("\\" * 128, widest, widest, "\x01" * 8000, "\\" * 128, 2**63, NOW, context)
    ((_, data),) = pack(0, 1, [largest])
    assert len(data) <= RECORD_BYTES
