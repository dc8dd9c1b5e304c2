"""Swarms in files: what is read, and what is said of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli.swarm_file import Described, SwarmFile, read

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


def whole(text: str) -> SwarmFile:
    found, bad = read(text)
    assert found is not None, [str(one) for one in bad]
    return found


def errors(text: str) -> list[str]:
    found, bad = read(text)
    assert (found is None) == bool(bad)
    return [str(one) for one in bad]


def by_id(text: str) -> dict[str, Described]:
    return {one.row.persona.persona_id: one for one in whole(text).personas}


def file(*personas: str) -> str:
    """A file whose first persona stands on line 3."""
    return "swarm: s\npersonas:\n" + "\n".join(f"- {{{one}}}" for one in personas)


def ann(more: str = "", name: str = "a") -> str:
    return f"id: {name}, role: r, charter: c" + (f", {more}" if more else "")


def test_a_tree_may_be_nested_or_named_by_parents() -> None:
    nested = """
swarm: s
complete: true
personas:
  - id: a
    role: r
    charter: c
    policy: &p {share_memory: true}
    children:
      - {id: b, role: r, charter: c, children: [{id: d, role: r, charter: c, policy: *p}]}
      - {id: c, name: Cee, role: r, charter: c}
"""
    named = """
swarm: s
complete: true
personas:
  - {id: d, role: r, charter: c, parent: b, policy: {share_memory: true}}
  - {id: b, role: r, charter: c, parent: a}
  - {id: c, name: Cee, role: r, charter: c, parent: a}
  - {id: a, role: r, charter: c, policy: {share_memory: true}}
"""
    one, other = whole(nested), whole(named)
    assert [(p.row.persona, p.waiting_for, p.seeds) for p in one.personas] == [
        (p.row.persona, p.waiting_for, p.seeds) for p in other.personas
    ]
    assert [p.row.persona.persona_id for p in one.personas] == ["a", "b", "c", "d"]
    assert [p.row.persona.name for p in one.personas] == ["a", "b", "Cee", "d"]
    assert {p.row.persona.swarm_id for p in one.personas} == {"s"}
    assert one.complete


def test_a_seed_keeps_its_id_wherever_it_stands_and_has_another_where_it_says_something_else() -> None:
    def ids(inbox: str) -> list[str]:
        return [str(seed.request.id) for seed in by_id(file(ann(f"inbox: {inbox}")))["a"].seeds]

    first, second = ids("[one, two]")
    assert ids("[two, {content: one, priority: 0.5}]") == [second, first]
    assert ids("[three]")[0] not in (first, second)
    assert ids("[{content: one, id: x}]") == ids("[{content: other, id: x}]") != [first]
    other = by_id(file(ann("inbox: [one]", "b")))["b"].seeds[0]
    assert other.request.id != first
    assert other.request.once


def test_text_of_blocks_ends_where_it_ends() -> None:
    text = "swarm: s\npersonas:\n- id: a\n  role: r\n  charter: |\n    One.\n    Two.\n"
    text += "  inbox:\n  - >\n    Hi\n    you\n"
    found = by_id(text)["a"]
    assert found.row.persona.charter == "One.\nTwo."
    assert found.seeds[0].request.content == "Hi you"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (file(ann("parent_id: b")), "line 3: unknown field `parent_id`; is `parent` meant?"),
        (file(ann("zzz: b")), "line 3: unknown field `zzz`; there are id, name"),
        (file(ann("policy: {max_depth: 1}")), "line 3: unknown field `max_depth`; is `max_spawn_depth`"),
        (file(ann("inbox: [{content: x, prio: 1}]")), "line 3: unknown field `prio`; is `priority` meant?"),
        ("swarms: s\n" + file(ann()), "line 1: unknown field `swarms`; is `swarm` meant?"),
        (file(ann(), ann()), "line 4: id `a` stands on line 3 already; each persona has its own"),
        (file(ann("parent: b"), ann("parent: a", "b")), "line 3: persona `a` descends from itself; leave"),
        (file(ann("waiting_for: [a]")), "line 3: personas would wait for each other: a → a; take one out"),
        (
            file(ann("waiting_for: [b]"), ann("waiting_for: [c]", "b"), ann("waiting_for: [a]", "c")),
            "line 3: personas would wait for each other: a → b → c → a",
        ),
        (file("id: a, role: r"), "line 3: missing `charter`"),
        (file("id: a, role: no, charter: c"), "line 3: role: Expected `str`, got `bool`; put it into quotes"),
        (file("id: 2026-01-02, role: r, charter: c"), "line 3: id: "),
        (file("id: a, role: 2026-13-45, charter: c"), "line 3: not valid YAML: month must be in 1..12"),
        (file(ann("charter: d")), "line 3: `charter` stands on line 3 already"),
        (file('id: "a\\x07", role: r, charter: c'), "line 3: id: Expected 1 to 128 characters"),
        (file('id: a, role: r, charter: "\\ud800"'), "line 3: half of a surrogate pair"),
        (file('id: a, role: r, charter: "\\n"'), "line 3: there is nothing in it"),
        (file(ann("inbox: [x, x]")), "line 3: this stands on line 3 already; give each an `id`"),
        (file(ann("children: b")), "line 3: expected a list of personas"),
        (file(ann("children: [b]")), "line 3: a persona is a mapping"),
        (file(ann("children: [{id: b, role: r, charter: c, parent: a}]")), "line 3: it stands under `a`"),
        ("swarm: s\npersonas: &x\n- {id: a, role: r, charter: c, children: *x}", "line 3: an alias names"),
        ("personas:\n- {id: a, role: r, charter: c}", "line 1: missing `swarm`"),
        ("swarm: s", "line 1: `personas` is missing"),
        ("swarm: s\npersonas: []", "line 2: there is no persona"),
        ("", "line 1: a swarm is a mapping"),
        ("- a", "line 1: a swarm is a mapping"),
        ("swarm: s\npersonas:\n\t- id: a", "line 3: not valid YAML: "),
        ("swarm: s\n\nx: \x07", "line 3: not valid YAML: special characters"),
        ("swarm: *s", "line 1: not valid YAML: found undefined alias"),
        ("[" * 5000, "line 1: nested too deeply"),
        ("swarm: s\nwhole: !!python/name:os.system\npersonas: []", "line 2: unknown field `whole`"),
        ("swarm: !!python/name:os.system\npersonas: []", "line 1: not valid YAML: could not determine"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_line_with_the_cure(text: str, said: str) -> None:
    assert any(one.startswith(said) for one in errors(text)), errors(text)


def test_everything_wrong_is_named_at_once_on_the_line_where_it_stands() -> None:
    text = """swarm: s
personas:
  - id: a
    role: r
    charter: c
    policy:
      idle_ttl_secs: -1
    children:
      - id: b
        role: r
        charter: c
        inbox:
          - fine
          - content: x
            priority: 2
      - id: b
        role: r
        charter: c
        colour: red
"""
    assert [one.partition(":")[0] for one in errors(text)] == ["line 7", "line 15", "line 19"]


def test_a_seed_that_is_wrong_is_named_by_its_own_line() -> None:
    begin = "swarm: s\npersonas:\n- id: a\n  role: r\n  charter: c\n  inbox:\n  - one\n"
    assert errors(begin + "  - two\n  - 7\n") == [
        "line 9: inbox[2]: Expected `str | object`, got `int`; put it into quotes"
    ]
    assert errors(begin + "  - two\n  - one\n")[0].startswith("line 9: this stands on line 7 already")


def test_a_recursive_or_exploding_file_ends() -> None:
    assert errors("swarm: &a {x: *a}\npersonas: []")
    bomb = "swarm: s\nx0: &x0 [a, a]\n"
    bomb += "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))
    assert errors(bomb + "personas: *x39")


@pytest.mark.parametrize("name", ["code-review", "incident-watch", "research-desk"])
def test_the_examples_can_be_read(name: str) -> None:
    assert whole((EXAMPLES / f"{name}.yaml").read_text()).swarm == name


@pytest.mark.fact("A16")
@pytest.mark.parametrize("name", ["code-review", "incident-watch", "research-desk"])
def test_the_examples_trees_may_think_as_much_as_one_model_can(name: str) -> None:
    """A root's credits are its whole tree's, and the default is 10 s a minute."""
    rows = [one.row.persona for one in whole((EXAMPLES / f"{name}.yaml").read_text()).personas]
    policies = [row.policy for row in rows if row.parent_id is None]
    assert [one.cpu_credits_per_minute for one in policies if one is not None] == [60_000]
