"""The lineage graph from its entries. Pure [2.10]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from libs.contracts.personas import LineageGraph, LineageNode
from libs.contracts.registry import LineageEntry


def graph(entries: Sequence[LineageEntry]) -> LineageGraph:
    """Return nodes, children and roots sorted by id. Entries come sorted by id."""
    children: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if entry.parent_id is not None:
            children[entry.parent_id].append(entry.persona_id)
    return LineageGraph(
        nodes=[
            LineageNode(
                persona_id=entry.persona_id,
                parent_id=entry.parent_id,
                children=children.get(entry.persona_id, []),
                depth=entry.depth,
                status=entry.status,
            )
            for entry in entries
        ],
        roots=[entry.persona_id for entry in entries if entry.parent_id is None],
        total_edges=sum(len(names) for names in children.values()),
    )
