"""Which checkpoint page holds which persona."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.novelty import HASHES
from libs.contracts.accounts import Credit, Credits, Settlement
from libs.contracts.journal import Pause, StoredLife, StoredMail
from libs.contracts.limits import INBOX_ITEMS, PAGE_BYTES, RECORD_BYTES
from libs.contracts.lives import Spent
from services.scheduler.ledger import Ledger
from services.scheduler.life import RECENT_THOUGHTS
from services.scheduler.pages import Pages, weigh
from tests.unit.make import NOW
from tests.unit.test_tokens import IDS

AT = NOW.timestamp()
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
@given(BATCHES, st.integers(200, 3000))
def test_everybody_stands_on_one_page_which_is_told_when_it_changes(
    batches: list[set[str]], most: int
) -> None:
    pages, ledger = Pages(most), Ledger(0)
    known: dict[str, int] = {}
    for batch in batches:
        touched = pages.touched(batch, ledger)
        now = membership(pages, ledger)
        assert known.items() <= now.items(), "who does not grow stays"
        assert now.keys() == known.keys() | batch
        assert touched == sorted({now[name] for name in batch})
        known = now


GROWING = st.lists(st.dictionaries(IDS, st.integers(0, 40), max_size=6), max_size=10)


@pytest.mark.fact("3.3")
@given(GROWING, st.integers(1500, 6000))
def test_a_page_stays_within_its_size_whatever_comes_for_its_members(
    batches: list[dict[str, int]], most: int
) -> None:
    """But for one whose only member is larger. Who moves goes to a later page, and both are told."""
    pages, ledger = Pages(most), Ledger(0)
    known: dict[str, int] = {}
    for batch in batches:
        for name, held in batch.items():
            mail = StoredMail([(2**64 - n, 100, 2) for n in range(held)], bytes(64), bytes(512))
            ledger.restore(name, 2**63, NOW, mail=mail)
        touched = pages.touched(batch, ledger)
        now = membership(pages, ledger)
        assert all(now[name] >= page for name, page in known.items())
        moved = {name for name, page in known.items() if now[name] != page}
        assert moved <= batch.keys()
        assert set(touched) == {now[name] for name in batch} | {known[name] for name in moved}
        known = now
        for number in range(len(pages)):
            page = pages.page(number, ledger, 2**63)
            assert len(page.counters) <= 1 or len(msgspec.json.encode(page)) <= most
    restored = Pages(most)
    for number in range(len(pages)):
        restored.restore(number, pages.page(number, ledger, 1).counters, ledger)
    assert membership(restored, ledger) == known
    assert restored.touched({"newcomer"}, ledger) == pages.touched({"newcomer"}, ledger)


def test_of_two_pages_that_have_a_persona_the_later_one_is_right() -> None:
    """Its owner died after it had stored the page to which the persona had moved, and not yet the other."""
    pages, ledger = Pages(10_000), Ledger(0)
    pages.restore(0, ["p", "q"], ledger)
    pages.restore(1, ["p"], ledger)
    assert membership(pages, ledger) == {"q": 0, "p": 1}


@pytest.mark.fact("A2")
def test_the_largest_persona_that_there_may_be_fits_a_page() -> None:
    """1000 items held, a batch more that gives way, and all that is remembered, under the longest id."""
    name, ledger = '"' * 128, Ledger(0)
    mail = StoredMail([(2**64 - n, 100, 2) for n in range(INBOX_ITEMS + 64)], bytes(64), bytes(512))
    state = [1 / 3, 2 / 3, *(AT + n / 7 for n in range(17))]
    pause = Pause(name, name, Credit.TOKENS, NOW, NOW)
    spent, signatures = Spent(2**63, 2**63, 2**63), [bytes(4 * HASHES)] * RECENT_THOUGHTS
    cost = Credits(2**53, 2**53)
    costs = cost, 2**31, cost, Settlement(2**63, 2**31, cost)
    life = StoredLife(state, spent, 2**63, AT, pause, AT / 7, AT / 3, True, signatures, *costs)
    ledger.restore(name, 2**63, NOW, life, mail)
    pages = Pages(PAGE_BYTES)
    assert pages.touched([name, "q"], ledger) == [0, 1]
    assert (
        len(msgspec.json.encode(pages.page(0, ledger, 2**63))) <= weigh(name, ledger) + 128 < RECORD_BYTES / 8
    )
    assert weigh("q", ledger) < 80, "who has neither costs its counters"


def test_a_page_has_its_members_counters_as_they_are_now() -> None:
    pages, ledger = Pages(10_000), Ledger(0)
    ledger.restore("p", 3, NOW)
    assert pages.touched(["p", "q"], ledger) == [0]
    page = pages.page(0, ledger, 77)
    assert (page.sequence, page.counters) == (77, {"p": (3, NOW), "q": (0, None)})


def test_without_personas_there_is_one_empty_page_and_nothing_to_store() -> None:
    pages = Pages(100)
    assert len(pages) == 1
    assert pages.touched([], Ledger(0)) == []
