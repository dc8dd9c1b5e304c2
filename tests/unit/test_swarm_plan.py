"""What a swarm in a file and what is there differ in."""

from __future__ import annotations

from typing import Any

from libs.cli.swarm_file import SwarmFile, read
from libs.cli.swarm_plan import Plan, There, plan
from libs.contracts.personas import PersonaIdentity, PersonaRuntimeState, PersonaStatus
from tests.unit.make import NOW, POLICY, policy

TREE = """swarm: s
personas:
- {id: a, role: r, charter: c, inbox: [hi], children: [{id: b, role: r, charter: c, waiting_for: [a]}]}
- {id: d, role: r, charter: c}
"""


def file(text: str) -> SwarmFile:
    found, bad = read(text)
    assert found is not None, bad
    return found


def state(persona_id: str, parent_id: str | None = None, **more: Any) -> PersonaRuntimeState:
    words: dict[str, Any] = {"name": persona_id, "role": "r", "charter": "c", "swarm_id": "s", "depth": 0}
    words |= {key: more.pop(key) for key in tuple(more) if key in words}
    identity = PersonaIdentity(id=persona_id, parent_id=parent_id, created_at=NOW, **words)
    known: dict[str, Any] = {"policy": POLICY, "status": PersonaStatus.ACTIVE} | more
    return PersonaRuntimeState(identity=identity, updated_at=NOW, **known)


def planned(text: str, *there: PersonaRuntimeState, sent: bool = False) -> Plan:
    found = file(text)
    keys = frozenset(seed.key for one in found.personas for seed in one.seeds) if sent else frozenset()
    return plan(found, There({one.identity.id: one for one in there}, POLICY, keys))


def steps(made: Plan) -> tuple[list[str], list[tuple[str, list[str]]], list[str]]:
    return (
        [row.persona.persona_id for row in made.create],
        [(one.persona_id, one.wanted) for one in made.wait],
        [seed.persona_id for seed in made.send],
    )


def errors(made: Plan) -> list[str]:
    return [str(one) for one in made.bad]


def cannot(made: Plan) -> list[str]:
    return [str(one) for one in made.cannot]


def test_where_nothing_is_everything_is_to_be_done_parents_first() -> None:
    made = planned(TREE)
    assert steps(made) == (["a", "d", "b"], [("b", ["a"])], ["a"])
    assert (made.bad, made.cannot, made.unchanged) == ([], [], [])


def test_where_everything_is_nothing_is_to_be_done() -> None:
    made = planned(TREE, state("a"), state("b", "a", waiting_for=["a"]), state("d"), sent=True)
    assert made.steps == 0
    assert (made.unchanged, made.bad, made.cannot) == (["a", "d", "b"], [], [])


def test_what_an_interrupted_run_has_left_is_to_be_done() -> None:
    made = planned(TREE, state("a"), state("b", "a"))
    assert steps(made) == (["d"], [("b", ["a"])], ["a"])
    assert made.unchanged == []


def test_what_the_file_leaves_out_is_right_and_an_empty_list_is_nobody() -> None:
    there = state("a", waiting_for=["x"], policy=policy(share_memory=True)), state("x")
    assert planned("swarm: s\npersonas: [{id: a, role: r, charter: c}]", *there).steps == 0
    made = planned("swarm: s\npersonas: [{id: a, role: r, charter: c, waiting_for: []}]", *there)
    assert steps(made)[1] == [("a", [])]
    assert made.wait[0].now == ["x"]


def test_what_cannot_change_is_said_with_both_and_the_rest_goes_on() -> None:
    there = state("a", charter="other", policy=policy(idle_ttl_secs=1)), state("d", "a")
    text = TREE.replace("inbox", "policy: {idle_ttl_secs: 2}, inbox")
    made = planned(text, *there)
    assert cannot(made) == [
        'line 3: `a` cannot be changed: charter is "other", not "c"; policy.idle_ttl_secs is 1, not 2',
        'line 4: `d` cannot be changed: parent_id is "a", not null',
    ]
    assert steps(made) == (["b"], [("b", ["a"])], ["a"])


def test_a_depth_that_the_parent_bounds_is_no_difference() -> None:
    text = """swarm: s
personas:
- {id: a, role: r, charter: c, children: [{id: b, role: r, charter: c, policy: {max_spawn_depth: 9}}]}"""
    made = planned(text, state("a"), state("b", "a", policy=policy(max_spawn_depth=4)))
    assert (made.steps, made.cannot) == (0, [])


def test_who_is_reaped_or_of_another_swarm_is_left_alone_with_all_below_it() -> None:
    for there in (state("a", status=PersonaStatus.REAPED), state("a", swarm_id="other")):
        made = planned(TREE, there)
        assert steps(made) == (["d"], [], []), "nothing is sent to somebody else's"
        assert len(made.cannot) == 2
        assert "give" in cannot(made)[0]
        assert "`b` cannot be created: its parent `a`" in cannot(made)[1]


def test_nobody_can_wait_for_who_is_reaped() -> None:
    text = "swarm: s\npersonas: [{id: a, role: r, charter: c, waiting_for: [x, y]}]"
    made = planned(text, state("x", status=PersonaStatus.REAPED), state("y", swarm_id="other"))
    assert cannot(made) == ["line 2: `a` cannot wait for `x`, which is reaped or not this swarm's"]
    assert steps(made) == (["a"], [], [])


def test_parents_and_dependencies_that_are_nowhere_are_errors() -> None:
    text = "swarm: s\npersonas: [{id: a, role: r, charter: c, parent: p, waiting_for: [x]}]"
    made = planned(text)
    assert errors(made) == [
        "line 2: its parent `p` is neither in the file nor there; describe it, too",
        "line 2: it waits for `x`, which is neither in the file nor there; "
        "describe it, or take it out of `waiting_for`",
    ]
    assert "was reaped" in errors(planned(text, state("p", status=PersonaStatus.REAPED), state("x")))[0]
    assert errors(planned(text, state("p", swarm_id="other"), state("x", swarm_id="other"))) == []


def test_a_circle_through_those_that_are_there_is_an_error() -> None:
    text = "swarm: s\npersonas:\n- {id: a, role: r, charter: c, waiting_for: [x]}"
    made = planned(text, state("a"), state("x", waiting_for=["a"]))
    assert errors(made)[0].startswith("line 3: personas would wait for each other: a → x → a")
    assert errors(planned(text, state("x", waiting_for=["a"], status=PersonaStatus.REAPED))) == []
    turned = "swarm: s\npersonas:\n- {id: a, role: r, charter: c, waiting_for: [x]}\n"
    turned += "- {id: x, role: r, charter: c, waiting_for: []}"
    assert errors(planned(turned, state("a"), state("x", waiting_for=["a"]))) == [], "the file turns it"


def wide(children: int, policy: str = "{}") -> str:
    below = "".join(f"  - {{id: c{n}, role: r, charter: c}}\n" for n in range(children))
    return f"swarm: s\npersonas:\n- id: a\n  role: r\n  charter: c\n  policy: {policy}\n  children:\n{below}"


def test_a_tree_that_its_policies_do_not_allow_is_an_error_before_it_is_there() -> None:
    assert errors(planned(wide(4))) == []
    assert errors(planned(wide(6)))[0].startswith(
        "line 12: the max_branching_factor of its parent `a` is 4; say"
    )
    assert len(errors(planned(wide(6)))) == 1
    assert errors(planned(wide(6, "{max_branching_factor: 6}"))) == []
    there = [state("a"), *(state(f"x{n}", "a") for n in range(3))]
    assert len(errors(planned(wide(2), *there))) == 1, "those that are there count"
    there[1] = state("x0", "a", status=PersonaStatus.REAPED)
    assert errors(planned(wide(2), *there)) == [], "the reaped do not"


def test_a_tree_that_is_too_deep_is_an_error() -> None:
    def chain(length: int, policy: str = "{}") -> str:
        rows = [f"- {{id: p0, role: r, charter: c, policy: {policy}}}"]
        rows += [f"- {{id: p{n}, role: r, charter: c, parent: p{n - 1}}}" for n in range(1, length)]
        return "swarm: s\npersonas:\n" + "\n".join(rows)

    assert errors(planned(chain(5))) == []
    assert errors(planned(chain(6)))[0].startswith("line 8: the max_spawn_depth of its parent `p4` is 4; say")
    assert errors(planned(chain(6, "{max_spawn_depth: 5}"))) == []
    own = chain(6).replace("parent: p0", "parent: p0, policy: {max_spawn_depth: 9}")
    assert len(errors(planned(own))) == 1, "what a parent allows bounds what its children may"
    made = planned("swarm: s\npersonas: [{id: a, role: r, charter: c, parent: p}]", state("p", depth=4))
    assert len(errors(made)) == 1


def test_who_is_not_in_a_complete_file_is_named_and_nothing_else() -> None:
    there = state("x"), state("y", status=PersonaStatus.REAPED), state("z", swarm_id="other")
    assert planned(TREE, *there).extra == []
    made = planned("complete: true\n" + TREE, *there)
    assert made.extra == ["x"]
    assert steps(made)[0] == ["a", "d", "b"]
