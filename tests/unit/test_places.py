"""However places are asked for and given back, no more answer a post than may, and none stays empty [A5]."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from libs.cognition.answer import Answer, failed
from libs.cognition.compose import compose
from libs.contracts.inbox import Post, PostAnswer, PostDecision
from libs.contracts.limits import ITEM_ATTEMPTS
from services.scheduler.places import (
    ANSWER_CHARS,
    TOLD,
    asked,
    decided,
    decision_of,
    given_back,
    has_room,
    is_complete,
    told,
    undecided,
    unused,
)
from tests.unit.make import NOW
from tests.unit.messages import decision, reading, taken

NAMES = ("ann", "bob", "cid", "dot", "eve")
STEPS = ("ask", "answer", "decline", "reap", "unused", "moved", "stale", "retold")


class Swarm:
    """Personas, each of a scheduler that knows whether it may answer, as owners of shards know it."""

    def __init__(self, most: int) -> None:
        self.post = Post(id="post", answers_most=most)
        self.boot = dict.fromkeys(NAMES, 0)
        self.wanting = set(NAMES)
        self.may: set[str] = set()
        self.decisions: list[PostDecision] = []

    def step(self, what: str, name: str) -> None:
        if what == "stale":  # its last owner has not noticed yet
            self.post = unused(self.post, name, str(self.boot[name] - 1))
        elif what == "retold":  # after a crash an owner tells again what its journal says
            for decision in self.decisions:
                self.post = decided(self.post, decision)
        elif name in self.wanting:
            getattr(self, what)(name)

    def ask(self, name: str) -> None:
        self.post = asked(self.post, [(name, 1)], str(self.boot[name]))
        if name in self.post.granted:
            self.may.add(name)

    def answer(self, name: str) -> None:
        answer = PostAnswer(persona_id=name, name=name, response="So.")
        if name in self.may:
            self._decide(name, answer)

    def decline(self, name: str) -> None:
        if name in self.may:
            self._decide(name, None)
        else:  # its shard's owner sees that no inbox has the copy any more
            self.wanting.discard(name)
            self.post = given_back(self.post, name)

    def _decide(self, name: str, answer: PostAnswer | None) -> None:
        decision = PostDecision(post_id="post", persona_id=name, sequence=1, answer=answer)
        self.decisions.append(decision)
        self.post = decided(self.post, decision)
        self.may.discard(name)
        self.wanting.discard(name)

    def reap(self, name: str) -> None:
        self.may.discard(name)
        self.wanting.discard(name)
        self.post = given_back(self.post, name)

    def unused(self, name: str) -> None:
        self.may.discard(name)
        self.post = unused(self.post, name, str(self.boot[name]))

    def moved(self, name: str) -> None:
        """Its shard has another owner, who does not know yet whether it may answer."""
        self.boot[name] += 1
        self.may.discard(name)


@pytest.mark.fact("A5")
@example(1, [("ask", "ann"), ("moved", "ann"), ("decline", "ann")])
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES)), max_size=60))
def test_never_more_answer_than_may_and_a_free_place_is_had_by_who_wants_it(
    most: int, steps: list[tuple[str, str]]
) -> None:
    swarm = Swarm(most)
    for what, name in steps:
        swarm.step(what, name)
        assert len({answer.persona_id for answer in swarm.post.answers}) <= most
        assert len(swarm.post.granted) == len(set(swarm.post.granted)) <= most
        assert swarm.may <= set(swarm.post.granted)
        assert set(swarm.post.asked) <= set(swarm.post.granted)
    for name in sorted(swarm.wanting):
        swarm.ask(name)
    answered = len(swarm.post.answers)
    assert len(swarm.may) == min(most - answered, len(swarm.wanting)), "who wants a place has every free one"
    assert is_complete(swarm.post) == (answered == most)


@pytest.mark.fact("A5")
def test_places_are_given_in_the_order_of_asking_and_who_finds_none_is_noted() -> None:
    post = asked(Post(id="post", answers_most=2), [("ann", 1), ("bob", 2)], "one")
    assert (post.granted, post.wanted, has_room(post)) == (["ann", "bob"], False, False)
    full = asked(post, [("cid", 3)], "one")
    assert (full.granted, full.wanted) == (["ann", "bob"], True)
    assert asked(full, [("dot", 4), ("ann", 1)], "one") == full, "asked again the answer is the same"


@pytest.mark.fact("A5")
def test_a_place_is_kept_by_who_has_answered_whoever_gives_it_back() -> None:
    post = asked(Post(id="post", answers_most=2), [("ann", 1), ("bob", 2)], "one")
    answer = PostAnswer(persona_id="ann", name="Ann", response="So.")
    post = decided(post, PostDecision(post_id="post", persona_id="ann", sequence=1, answer=answer))
    assert undecided(post) == ["bob"]
    assert given_back(post, "ann") == unused(post, "ann", "one") == post
    assert unused(post, "bob", "another") == post, "only who asked for it takes it back unused"
    assert unused(post, "bob", "one").granted == given_back(post, "bob").granted == ["ann"]


@pytest.mark.fact("A5")
def test_what_was_declined_of_an_earlier_copy_does_not_free_the_place_of_a_later_one() -> None:
    post = asked(Post(id="post", answers_most=1), [("ann", 9)], "one")
    early = PostDecision(post_id="post", persona_id="ann", sequence=3, answer=None)
    assert decided(post, early) == post
    assert decided(post, structs.replace(early, sequence=9)).granted == []


def decisions(answer: Answer, attempts: int = 0, *, may_answer: bool = True) -> list[PostDecision | None]:
    """What a thought says that took up a post's copy and a message of its own."""
    copy = taken(1, post_id="post", attempts=attempts, may_answer=may_answer)
    thought = compose(reading(copy, taken(2)), 1, answer, NOW)
    assert thought.effort is not None
    return [decision_of(thought, item) for item in thought.effort.items]


@pytest.mark.fact("A5")
def test_a_thought_tells_the_journal_what_its_persona_has_decided_on_posts() -> None:
    said = PostAnswer(persona_id="p", name="name of p", response="Calm.")
    declined = PostDecision(post_id="post", persona_id="p", sequence=1, answer=None)
    assert decisions(Answer(text=decision())) == [structs.replace(declined, answer=said), None]
    assert decisions(Answer(text=decision(False, ""))) == [declined, None]
    assert decisions(failed("away"), ITEM_ATTEMPTS - 1) == [declined, None], "set aside, it frees the place"
    assert decisions(failed("away")) == [None, None], "it is tried again"
    assert decisions(Answer(text=decision()), may_answer=False) == [None, None], "it had no place"


@pytest.mark.fact("A5")
def test_what_others_see_of_answers_leaves_room_for_the_post_itself() -> None:
    (long, _) = decisions(Answer(text=decision(True, "x" * 4000)))
    assert long is not None and long.answer is not None
    assert long.answer.response == "x" * ANSWER_CHARS + "..."
    answers = [PostAnswer(persona_id=f"p{n}", name=f"P{n}", response="So.") for n in range(TOLD + 2)]
    post = Post(id="post", answers_most=20, answers=answers)
    assert told(post) == [f"P{n}: So." for n in range(2, TOLD + 2)]
