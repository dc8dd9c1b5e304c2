"""How much a thinker takes from the work queue at once."""

from __future__ import annotations

import pytest
from msgspec import structs

from libs.contracts.limits import CHUNK_PERSONAS
from libs.contracts.work import Chunk
from services.thinker.sizes import ChunkSizes
from tests.unit.make import chunk

ROOM = 2 * CHUNK_PERSONAS


def of(size: int, *, alone: bool = False) -> Chunk:
    return structs.replace(chunk("c", *[f"p{n}" for n in range(size)]), alone=alone)


def after(*chunks: Chunk) -> ChunkSizes:
    sizes = ChunkSizes()
    for each in chunks:
        sizes.came(each)
    return sizes


def test_chunks_count_as_full_until_one_has_come() -> None:
    assert ChunkSizes().chunks(ROOM) == 2
    assert ChunkSizes().chunks(1) == 1, "room for one thought is room for whatever comes next"


@pytest.mark.parametrize("room", [0, -1, -ROOM])
def test_without_room_nothing_is_asked_for(room: int) -> None:
    assert ChunkSizes().chunks(room) == 0
    assert after(*[of(1)] * 100).chunks(room) == 0


def test_of_small_chunks_more_are_asked_for() -> None:
    assert after(*[of(CHUNK_PERSONAS // 2)] * 100).chunks(ROOM) == 4
    assert after(*[of(CHUNK_PERSONAS // 4)] * 100).chunks(ROOM) == 8


def test_thoughts_alone_change_nothing() -> None:
    """After so many singles, full chunks would count as singles: thousands of thoughts in hand, all late."""
    assert after(*[of(1, alone=True)] * 64).chunks(ROOM) == 2


def test_a_full_chunk_after_small_ones_counts_at_once() -> None:
    assert after(*[of(1)] * 100, of(CHUNK_PERSONAS)).chunks(ROOM) == 2


def test_a_backlog_of_full_chunks_behind_small_ones_is_not_taken_in_at_once() -> None:
    assert after(*[of(1)] * 100).chunks(ROOM) == 16
    assert after(*[of(1)] * 100).chunks(100 * CHUNK_PERSONAS) == 100, "what there is room for is no excess"
