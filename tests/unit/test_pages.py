"""Which checkpoint page holds which persona."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.ledger import Ledger
from services.scheduler.pages import Pages
from tests.unit.make import NOW
from tests.unit.test_tokens import IDS

BATCHES = st.lists(st.sets(IDS, max_size=8), max_size=8)


def membership(pages: Pages, ledger: Ledger) -> dict[str, int]:
    """Return on which page each persona stands; nobody stands on two."""
    found: dict[str, int] = {}
    for number in range(len(pages)):
        for name in pages.page(number, ledger, 1).counters:
            assert name not in found
            found[name] = number
    return found


@pytest.mark.fact("3.3")
@given(BATCHES, st.integers(100, 3000))
def test_a_persona_stays_on_its_page_for_good(batches: list[set[str]], most: int) -> None:
    pages, ledger = Pages(most), Ledger(0)
    known: dict[str, int] = {}
    for batch in batches:
        touched = pages.touched(batch)
        now = membership(pages, ledger)
        assert known.items() <= now.items()
        assert now.keys() == known.keys() | batch
        assert touched == sorted({now[name] for name in batch})
        known = now


@given(BATCHES, st.integers(1500, 6000))
def test_a_page_stays_within_its_size_at_the_largest_counters(batches: list[set[str]], most: int) -> None:
    """Beyond the page's own frame, which the bound of a record leaves room for."""
    pages, ledger = Pages(most), Ledger(0)
    for batch in batches:
        pages.touched(batch)
        for name in batch:
            ledger.restore(name, 2**63, NOW)
    for number in range(len(pages)):
        page = pages.page(number, ledger, 2**63)
        if len(page.counters) > 1:
            assert len(msgspec.json.encode(page)) <= most + 64


@given(BATCHES, st.integers(100, 3000))
def test_pages_restored_from_the_bucket_go_on_as_before(batches: list[set[str]], most: int) -> None:
    pages, ledger = Pages(most), Ledger(0)
    for batch in batches:
        pages.touched(batch)
    restored = Pages(most)
    for number in range(len(pages)):
        restored.restore(number, pages.page(number, ledger, 1).counters)
    assert membership(restored, ledger) == membership(pages, ledger)
    assert restored.touched({"newcomer"}) == pages.touched({"newcomer"})


def test_a_page_has_its_members_counters_as_they_are_now() -> None:
    pages, ledger = Pages(10_000), Ledger(0)
    ledger.restore("p", 3, NOW)
    assert pages.touched(["p", "q"]) == [0]
    page = pages.page(0, ledger, 77)
    assert (page.sequence, page.counters) == (77, {"p": (3, NOW), "q": (0, None)})


def test_without_personas_there_is_one_empty_page_and_nothing_to_store() -> None:
    pages = Pages(100)
    assert len(pages) == 1
    assert pages.touched([]) == []
