"""Reading the roster in pages [2.10]."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.personas import PersonaStatus, PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import NotFound
from libs.contracts.registry import LineageEntry, LineageQuery, PersonaListQuery
from services.registry import queries
from tests.unit.make import NOW, Tree

FREE = PolicyRequest(max_spawn_depth=100, max_branching_factor=5000)


def walk(tree: Tree, **query: Any) -> list[str]:
    """Return every id of all pages, and check that totals and ends are right."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = queries.page(tree.roster, PersonaListQuery(after=after, **query))
        assert len(page.records) <= query.get("limit", 100)
        found += [record.identity.id for record in page.records]
        if page.next_after is None:
            assert page.total == len(found)
            return found
        after = page.next_after


@given(st.sets(st.text("abü/ ", min_size=1, max_size=4), max_size=20), st.integers(1, 7))
def test_pages_hold_everybody_once_sorted_by_id(names: set[str], limit: int) -> None:
    tree = Tree()
    for name in sorted(names, key=hash):
        tree.create(name)
    assert walk(tree, limit=limit) == sorted(names)


def test_pages_may_be_filtered_by_swarm_and_status() -> None:
    tree = Tree()
    for number in range(9):
        tree.create(f"p{number}", swarm_id="even" if number % 2 == 0 else None)
    tree.carry_out(tree.rules.reap(tree.view, "p4", ReapPersonaRequest(), NOW))
    assert walk(tree, swarm_id="even", limit=2) == ["p0", "p2", "p4", "p6", "p8"]
    assert walk(tree, status=PersonaStatus.REAPED) == ["p4"]
    assert walk(tree, swarm_id="even", status=PersonaStatus.ACTIVE, limit=3) == ["p0", "p2", "p6", "p8"]
    assert walk(tree, swarm_id="none") == []


def test_a_page_fits_a_message_however_long_the_charters_are() -> None:
    tree = Tree()
    for number in range(80):
        tree.create(f"p{number:02}", charter="\U0001f600" * 8000)
    page = queries.page(tree.roster, PersonaListQuery(limit=80))
    assert 1 <= len(page.records) < 80
    assert len(msgspec.json.encode(page)) < 1024 * 1024
    assert walk(tree, limit=80) == [f"p{number:02}" for number in range(80)]


@pytest.mark.fact("5.2")
def test_an_unknown_persona_is_not_found() -> None:
    with pytest.raises(NotFound, match="Persona not found: x"):
        queries.persona(Tree().roster, "x")


def lineage(tree: Tree, meanwhile: str = "") -> list[LineageEntry]:
    found: list[LineageEntry] = []
    query = LineageQuery()
    while True:
        page = queries.lineage_page(tree.roster, query, tree.sequence)
        found += page.entries
        if page.next_after is None:
            return found
        if meanwhile:
            tree.create(meanwhile)
            meanwhile = ""
        query = LineageQuery(after=page.next_after, as_of=page.as_of)


@pytest.mark.fact("2.10")
def test_the_lineage_has_everybody_sorted_by_id_reaped_ones_too() -> None:
    tree = Tree()
    tree.create("b", policy=FREE)
    tree.create("a", "b")
    tree.create("c", "a")
    tree.carry_out(tree.rules.reap(tree.view, "a", ReapPersonaRequest(), NOW))
    assert lineage(tree) == [
        LineageEntry("a", "b", 1, PersonaStatus.REAPED),
        LineageEntry("b", None, 0, PersonaStatus.ACTIVE),
        LineageEntry("c", "a", 2, PersonaStatus.ACTIVE),
    ]


@pytest.mark.fact("2.10")
@pytest.mark.parametrize("newcomer", ["000", "m0000x", "zzz"])
def test_pages_of_the_lineage_show_the_tree_as_of_one_moment(
    newcomer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is created while the pages are read is in none of them, wherever its id sorts."""
    monkeypatch.setattr(queries, "LINEAGE_BYTES", 4096)
    tree = Tree()
    names = [f"m{number:04}" for number in range(1000)]
    for name in names:
        tree.create(name)
    assert [entry.persona_id for entry in lineage(tree, newcomer)] == names
    first = queries.lineage_page(tree.roster, LineageQuery(), tree.sequence)
    assert 0 < len(first.entries) < 200
    assert newcomer in {entry.persona_id for entry in lineage(tree)}
