"""Who does what: rendezvous hashing moves only the share of whoever comes or goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.bus.presence import chosen
from libs.contracts.limits import SHARDS

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6)
WORK = [f"shard-{shard}" for shard in range(SHARDS)]


@given(NAMES, st.text(max_size=10))
def test_everybody_chooses_the_same_one_in_whatever_order_they_know_them(names: set[str], work: str) -> None:
    assert chosen(sorted(names), work) == chosen(sorted(names, reverse=True), work)
    assert chosen(names, work) in names


@given(NAMES, st.text(min_size=1, max_size=8))
def test_a_newcomer_takes_its_share_and_moves_nothing_else(names: set[str], newcomer: str) -> None:
    for work in WORK:
        assert chosen(names | {newcomer}, work) in (chosen(names, work), newcomer)


def test_nobody_is_chosen_of_nobody() -> None:
    assert chosen([], "work") is None


def test_the_work_is_spread() -> None:
    names = [f"scheduler-{number}" for number in range(4)]
    shares = [sum(chosen(names, work) == name for work in WORK) for name in names]
    assert min(shares) >= SHARDS // 4 // 2
