"""The lineage graph [2.10]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.personas import LineageGraph, LineageNode, PersonaStatus
from libs.contracts.registry import LineageEntry
from services.gateway.lineage import graph

ACTIVE, REAPED = PersonaStatus.ACTIVE, PersonaStatus.REAPED


@pytest.mark.fact("2.10")
def test_the_graph_shows_everybody_with_parent_children_depth_and_status() -> None:
    entries = [
        LineageEntry("a", "r", 1, REAPED),
        LineageEntry("b", "r", 1, ACTIVE),
        LineageEntry("c", "a", 2, ACTIVE),
        LineageEntry("r", None, 0, ACTIVE),
        LineageEntry("s", None, 0, REAPED),
    ]
    assert graph(entries) == LineageGraph(
        nodes=[
            LineageNode(persona_id="a", parent_id="r", children=["c"], depth=1, status=REAPED),
            LineageNode(persona_id="b", parent_id="r", children=[], depth=1, status=ACTIVE),
            LineageNode(persona_id="c", parent_id="a", children=[], depth=2, status=ACTIVE),
            LineageNode(persona_id="r", parent_id=None, children=["a", "b"], depth=0, status=ACTIVE),
            LineageNode(persona_id="s", parent_id=None, children=[], depth=0, status=REAPED),
        ],
        roots=["r", "s"],
        total_edges=3,
    )


def test_without_personas_there_is_an_empty_graph() -> None:
    assert graph([]) == LineageGraph(nodes=[], roots=[], total_edges=0)


@pytest.mark.fact("2.10")
@given(st.lists(st.integers(-1, 30), max_size=30))
def test_everything_is_sorted_and_every_edge_is_counted_once(parents: list[int]) -> None:
    names = [f"{(number * 7919) % 1009:04}" for number in range(len(parents))]
    chosen = [names[p] if 0 <= p < number else None for number, p in enumerate(parents)]
    entries = [LineageEntry(name, parent, 0, ACTIVE) for name, parent in zip(names, chosen, strict=True)]
    shown = graph(sorted(entries, key=lambda entry: entry.persona_id))
    assert [node.persona_id for node in shown.nodes] == sorted(names)
    assert shown.roots == sorted(name for name, parent in zip(names, chosen, strict=True) if parent is None)
    for node in shown.nodes:
        assert node.children == sorted(e.persona_id for e in entries if e.parent_id == node.persona_id)
    assert shown.total_edges == sum(len(node.children) for node in shown.nodes)
    assert shown.total_edges == sum(parent is not None for parent in chosen)
