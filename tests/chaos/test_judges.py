"""What a storm finds in a stream that is not as it must be, and that it finds nothing in one that is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from libs.cognition.handling import OTHERS_ANSWERED
from libs.contracts.inbox import Post, PostAnswer
from libs.contracts.rollups import spender
from services.thinker.summaries import SYSTEM
from tests.chaos.changes import Value, others
from tests.chaos.clients import Book
from tests.chaos.collector import Event
from tests.chaos.lives import COUNCIL, POOR_CREDITS, Ends, Posted, family
from tests.chaos.memory import Memory
from tests.chaos.model import Model
from tests.chaos.posts import Posts
from tests.chaos.verdict import differences
from tests.unit.make import NOW

USAGE = {"total_tokens": 340}


def event(event_type: str, persona: str | None, swarm_id: str | None = None, **payload: Any) -> Event:
    return Event("e-1", NOW, event_type, persona, swarm_id, payload)


def snapshot(number: int, persona: str = "p1", swarm_id: str = COUNCIL) -> Event:
    return event("snapshot_compressed", persona, swarm_id, thinking=f"[{number}] Calm.", usage=USAGE)


def roll_up(*numbers: int, swarm_id: str = COUNCIL) -> Event:
    text = " ".join(f"[{number}]" for number in numbers)
    more = {"source": "model", "cold_snapshot_count": len(numbers), "usage": USAGE}
    return event("snapshot_compressed", None, swarm_id, thinking=text, **more)


def remembered(*events: Event) -> Memory:
    memory = Memory()
    for one in events:
        memory.note(one)
    return memory


def test_each_snapshot_in_one_roll_up_of_its_swarm_is_as_it_must_be() -> None:
    memory = remembered(snapshot(1), snapshot(2), roll_up(1, 2), snapshot(3), snapshot(5), roll_up(5))
    assert memory.findings == []
    assert (memory.roll_ups, memory.by_model, memory.left_out) == (2, 2, 1)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([snapshot(1), snapshot(2), roll_up(1, 2), roll_up(1, 2)], "folds in what another did"),
        ([snapshot(1), snapshot(2), roll_up(1, 2), snapshot(3), roll_up(2, 3)], "folds in what another did"),
        ([snapshot(1), snapshot(2, "p0", family("p0")), roll_up(1, 2)], "folds in what another did"),
        ([snapshot(1), snapshot(2, "p5", "storm"), roll_up(1, 2)], "folds in what nobody shares"),
        ([snapshot(1), snapshot(2), roll_up(2), roll_up(1)], "out of their order"),
    ],
)
def test_what_is_folded_in_twice_late_or_of_others_is_found(events: list[Event], said: str) -> None:
    found = remembered(*events).findings
    assert len(found) == 1 and said in found[0]


def decided(post_id: str, answers: dict[str, str | None], *, unsaid: str = "") -> Posts:
    """A stream in which personas have handled their copies of a post; one would have answered."""
    posts = Posts()
    for name, response in answers.items():
        copy = f"{post_id}/{name}"
        posts.note(event("inbox_received", name, id=copy, post_id=post_id))
        items = [{"id": copy, "outcome": "handled"}]
        error = OTHERS_ANSWERED if name == unsaid else None
        posts.note(event("inbox_handled", name, items=items, response=response, error=error))
    return posts


def key(granted: str, answered: str, most: int = 2) -> Post:
    answers = [PostAnswer(persona_id=name, name=name, response="So.") for name in answered]
    return Post(id="q", answers_most=most, granted=list(granted), answers=answers)


def test_a_post_that_as_many_have_answered_as_may_is_as_it_must_be() -> None:
    posts = decided("q", {"a": "So.", "b": None, "c": "So.", "d": None}, unsaid="d")
    assert posts.judged(key("ac", "ac"), Posted(COUNCIL, 2, 4), is_calm=True) == []
    assert (posts.answers, posts.declined()) == (2, 1)


@pytest.mark.parametrize(
    ("answers", "unsaid", "post", "said"),
    [
        ({"a": "So.", "b": "So.", "c": "So."}, "", key("ab", "ab"), "2 may answer"),
        ({"a": "So.", "b": None}, "", key("ab", "a"), "keep places"),
        ({"a": "So.", "b": None}, "", key("", ""), "does not know"),
        ({"a": "So.", "b": None}, "", key("ab", "ab"), "the stream does not"),
        ({"a": "So.", "b": None}, "b", key("a", "a"), "were not let"),
    ],
)
def test_too_many_or_too_few_answers_and_places_that_are_kept_are_found(
    answers: dict[str, str | None], unsaid: str, post: Post, said: str
) -> None:
    found = decided("q", answers, unsaid=unsaid).judged(post, Posted(COUNCIL, 2, 2), is_calm=True)
    assert any(said in one for one in found)


def test_who_was_paused_before_the_calm_and_told_twice_or_not_resumed_is_found() -> None:
    ends = Ends()
    for name in ("a", "b", "c", "a"):
        ends.note(event("budget_paused", name, resumes_at=None))
    ends.note(event("budget_resumed", "b"))
    assert ends.paused(time.monotonic() + 1, {"c"}) == ["a"]
    assert ends.paused(0.0, set()) == []
    found = ends.credit_findings({}, ["a"])
    assert found == ["a was paused and is not resumed", "a was paused twice, until None"]


def test_what_a_family_s_roll_ups_cost_is_its_root_s_and_in_both_reports_once() -> None:
    ends = Ends()
    for one in (snapshot(1, "heir-0-1", family("p0")), roll_up(1, swarm_id=family("p0"))):
        ends.note(one)
    spent = {"heir-0-1": 340, spender(family("p0")): 340}
    assert ends.fullest_tree({"heir-0-1": "p0"}) == 680 / POOR_CREDITS
    assert ends.spend_findings(spent, {"r": 340, "(roll-up)": 340}) == []
    assert len(ends.spend_findings(spent | {"heir-0-1": 680}, {"r": 340, "(roll-up)": 340})) == 1
    assert len(ends.spend_findings(spent, {"r": 340, "(roll-up)": 680})) == 2, "that row, and all"


def test_the_model_numbers_its_answers_and_a_summary_names_those_that_it_is_told() -> None:
    model = Model()

    def asked(system: str, told: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": told}]
        return model({"messages": messages}).body.decode()

    assert "[1] A calm" in asked("You are p.", "Think.")
    assert "In sum: [1] [7]" in asked(SYSTEM, '- "p", "r": "[1] A calm signal"\n- "q", "r": "[7] Calm."')
    decisions = [asked("You are p.", "will_respond") for _ in range(3)]
    assert sum("false" in one for one in decisions) == 1


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([1, 2, 3], []),
        ([1, 2], ["3 copies were announced, 2 are kept; at 2 None for 3"]),
        ([1, 3, 2], ["3 copies were announced, 3 are kept; at 1 3 for 2"]),
        ([1, 2, 2, 3], ["3 copies were announced, 4 are kept; at 2 2 for 3"]),
    ],
)
def test_a_copy_that_is_missing_repeated_or_another_is_found(kept: list[int], said: list[str]) -> None:
    assert differences("copies", [1, 2, 3], kept) == said


def test_what_was_acknowledged_last_or_never_answered_may_be_and_nothing_else() -> None:
    value = Value([])
    for wanted, status in ((["p1"], 200), (["p2"], 503), (["p3"], 409), (["p4"], 0), (["p5"], 200)):
        value.asked(wanted, status)
    assert value.may_be == [["p5"], ["p2"], ["p4"]]
    assert others({"p9": value}, {"p9": ["p2"]}) == []
    assert len(others({"p9": value}, {"p9": ["p1"]})) == 1
    assert len(others({"p9": value}, {})) == 1


def test_who_may_have_been_reaped_with_its_parent_is_not_expected_to_think() -> None:
    """A reap that is not answered may have been done, and takes children and theirs along."""
    book = Book(created={"p0", "c1", "c2", "c3", "c4"}, parents={"c2": "c1", "c3": "c2", "c4": "p0"})
    assert book.living == ["c1", "c2", "c3", "c4", "p0"]
    book.maybe_reaped.add("c1")
    assert book.living == ["c4", "p0"]
