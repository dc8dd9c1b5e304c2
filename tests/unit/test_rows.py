"""Files of personas: what is read, in which order, and what is said of bad rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cli.rows import read


def row(persona_id: str, parent_id: str | None = None, **more: Any) -> dict[str, Any]:
    words = {
        "persona_id": persona_id,
        "name": persona_id.upper(),
        "role": "critic",
        "charter": "Look,\nand say.",
    }
    return words | ({"parent_id": parent_id} if parent_id is not None else {}) | more


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in rows)


def names(text: str) -> list[str]:
    rows, bad = read(text)
    assert not bad
    return [one.persona.persona_id for one in rows]


def errors(text: str) -> list[str]:
    return [str(one) for one in read(text)[1]]


CSV = (
    "persona_id,name,role,charter,parent_id,policy.max_spawn_depth,policy.share_memory\r\n"
    'c,C,critic,"Look,\nand say.",p,2,true\r\n'
    'p,P,critic,"Look,\nand say.",,,\r\n'
)
FAMILY = [row("c", "p", policy={"max_spawn_depth": 2, "share_memory": True}), row("p")]


@pytest.mark.parametrize(
    "text",
    [lines(*FAMILY), "\ufeff\n" + lines(*FAMILY), json.dumps(FAMILY), json.dumps(FAMILY, indent=2), CSV],
    ids=["lines", "byte order mark", "array", "indented array", "csv"],
)
def test_every_form_says_the_same_and_parents_come_first(text: str) -> None:
    rows, bad = read(text)
    assert not bad
    assert [one.persona.persona_id for one in rows] == ["p", "c"]
    child = rows[1].persona
    assert (child.name, child.charter, child.parent_id) == ("C", "Look,\nand say.", "p")
    assert child.policy is not None
    assert (child.policy.max_spawn_depth, child.policy.share_memory) == (2, True)


@given(st.permutations(range(40)), st.integers(1, 5))
def test_a_parent_comes_before_its_children_wherever_it_stands(order: list[int], arms: int) -> None:
    tree = [row(f"p{n}", f"p{(n - 1) // arms}" if n else "elsewhere") for n in range(40)]
    seen: set[str] = {"elsewhere"}
    for one in read(lines(*(tree[n] for n in order)))[0]:
        assert one.persona.parent_id in seen
        seen.add(one.persona.persona_id)
    assert len(seen) == 41


def test_rows_keep_their_order_where_no_parent_demands_another() -> None:
    assert names(lines(row("b"), row("a"), row("c"))) == ["b", "a", "c"]
    assert names("") == names("[]") == names(" \n") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lines(row("a")) + "\n{oops\n", "line 3: not valid JSON"),
        (lines(row("a")) + '{"persona_id": "b"}\n', "line 2: Object missing required field `name`"),
        (lines(row("a"), row("b", name=7)), "line 2: name: Expected `str`, got `int`"),
        (lines(row("a", policy={"idle_ttl_secs": -1})), "line 1: policy.idle_ttl_secs: Expected `int` >= 0"),
        (lines(row("a", parent="b")), "line 1: unknown field `parent`; there are charter, name, parent_id"),
        (lines(row("a", policy={"depth": 1})), "line 1: unknown field `depth`; there are cpu_credits"),
        (lines(row("a"), row("b"), row("a")), "line 3: persona_id `a` stands on line 1 already"),
        (lines(row("a\x07")), "line 1: persona_id: Expected `str` matching"),
        (lines(row("a", name="\ud800")), "line 1: half of a surrogate pair"),
        ('{"persona_id": "x"', "line 1: not valid JSON"),
        ("{}\n[1]\n", "line 2: a persona is an object"),
        ('[\n {"persona_id": 3}\n]', "line 2: persona_id: Expected `str`, got `int`"),
        (
            "[\n" + json.dumps(row("a")) + "\n" + json.dumps(row("b")) + "]",
            "line 3: not valid JSON: expected",
        ),
        ("[" + json.dumps(row("a")), "line 1: not valid JSON: expected"),
        ("[]\n\nmore", "line 3: not valid JSON: something follows"),
        ("[\n\n{oops}]", "line 3: not valid JSON"),
        ("persona_id,name,rolle\na,b,c\n", "line 1: unknown column `rolle`; there are charter"),
        ("persona_id,name,role,charter\na,A,r,c\nb,B\n", "line 3: expected 4 columns"),
        ("persona_id,name,role,charter\na,A,r,c,x\n", "line 2: expected 4 columns"),
        ("persona_id,name,role,charter\na,A,r,\n", "line 2: Object missing required field `charter`"),
        ('persona_id,name,role,charter\na,A,r,"c\n', "line 2: not valid CSV"),
    ],
)
def test_a_bad_row_is_named_by_its_line(text: str, said: str) -> None:
    assert any(one.startswith(said) for one in errors(text)), errors(text)


def test_every_bad_row_is_named_not_only_the_first() -> None:
    found = errors(lines(row("a"), {"x": 1}, row("b"), {"y": 1}, row("a")))
    assert [one.partition(":")[0] for one in found] == ["line 2", "line 4", "line 5"]


def test_those_that_descend_from_themselves_are_named() -> None:
    found = errors(lines(row("a", "c"), row("b", "a"), row("c", "b"), row("d", "d"), row("e", "b"), row("f")))
    assert [one.partition(": ")[0] for one in found] == ["line 1", "line 2", "line 3", "line 4", "line 5"]
    assert found[3] == "line 4: persona `d` descends from itself"
