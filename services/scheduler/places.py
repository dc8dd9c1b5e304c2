"""Places to answer a swarm-wide post [A5]: never more than it has, and one given back is free again. Pure.

Who has answered keeps its place. So no more personas answer than the post has places, as long as nobody gives
back the place of one that may still answer. These do so:

- whoever reads in the journal that a persona with a place has declined: its copy is settled with that;
- the owner of the persona's shard, where no inbox holds the copy, and nothing that was under way answers it;
- the scheduler that asked for the place last, where no thought is under way that may use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct, structs

from libs.cognition.text import trim
from libs.contracts.inbox import Asked, Outcome, Post, PostAnswer, PostDecision
from libs.contracts.journal import ItemSettled, ThoughtEntry
from libs.contracts.thoughts import OwnEventType

ANSWER_CHARS = 500
"""Characters of an answer that a post's key keeps, for others to see."""

TOLD = 8
"""The newest answers of a post that a prompt tells."""

P = TypeVar("P")


class _Named(Struct):
    name: str


class _Thought(Struct):
    persona: _Named


class _Decided(Struct):
    response: str | None


class _Event(Struct, Generic[P]):
    payload: P


_decode_thought = msgspec.json.Decoder(_Event[_Thought]).decode
_decode_decided = msgspec.json.Decoder(_Event[_Decided]).decode


def decision_of(thought: ThoughtEntry, item: ItemSettled) -> PostDecision | None:
    """Return what a thought has decided on an item that it has settled for good.

    None where its persona had no place to answer, or takes the item up again.
    """
    if item.post_id is None or item.outcome not in (Outcome.HANDLED, Outcome.ASIDE):
        return None
    response = _response_of(thought) if item.outcome is Outcome.HANDLED else None
    answer = None
    if response is not None:
        name = _decode_thought(thought.events[0][1]).payload.persona.name
        response = trim(response, ANSWER_CHARS)
        answer = PostAnswer(persona_id=thought.persona_id, name=name, response=response)
    return PostDecision(
        post_id=item.post_id, persona_id=thought.persona_id, sequence=item.sequence, answer=answer
    )


def _response_of(thought: ThoughtEntry) -> str | None:
    decided = next((event for kind, event in thought.events if kind == OwnEventType.INBOX_HANDLED), None)
    return _decode_decided(decided).payload.response if decided is not None else None


def has_room(post: Post) -> bool:
    """Whether a place is free."""
    return len(post.granted) < post.answers_most


def is_complete(post: Post) -> bool:
    """Whether as many have answered as may."""
    return len(post.answers) >= post.answers_most


def told(post: Post) -> list[str]:
    """Return the newest answers as a prompt tells them, oldest first, each with who gave it."""
    return [f"{one.name}: {one.response}" for one in post.answers[-TOLD:]]


def undecided(post: Post) -> list[str]:
    """Return the personas that have a place and have not answered."""
    answered = {answer.persona_id for answer in post.answers}
    return [persona_id for persona_id in post.granted if persona_id not in answered]


def asked(post: Post, askers: Iterable[tuple[str, int]], boot: str) -> Post:
    """Give places to personas, each with the sequence of its copy, in this order while there is room.

    Who has a place keeps it, and `boot` is who asked for it last. Whoever finds no room is noted: then those
    who leave their places unused are to give them back.
    """
    granted, by, wanted = list(post.granted), dict(post.asked), post.wanted
    for persona_id, sequence in askers:
        if persona_id not in granted:
            if len(granted) >= post.answers_most:
                wanted = True
                continue
            granted.append(persona_id)
        by[persona_id] = Asked(boot=boot, sequence=sequence)
    return structs.replace(post, granted=granted, asked=by, wanted=wanted)


def decided(post: Post, decision: PostDecision) -> Post:
    """Note an answer; without one the place is free again, unless it is by now that of a later copy."""
    persona_id, answer = decision.persona_id, decision.answer
    if answer is None:
        last = post.asked.get(persona_id)
        return given_back(post, persona_id) if last is None or last.sequence <= decision.sequence else post
    others = [one for one in post.answers if one.persona_id != persona_id]
    granted = post.granted if persona_id in post.granted else [*post.granted, persona_id]
    return structs.replace(post, granted=granted, answers=[*others, answer])


def given_back(post: Post, persona_id: str) -> Post:
    """Free a persona's place, unless it has answered."""
    if persona_id not in undecided(post):
        return post
    return structs.replace(
        post,
        granted=[one for one in post.granted if one != persona_id],
        asked={one: by for one, by in post.asked.items() if one != persona_id},
    )


def unused(post: Post, persona_id: str, boot: str) -> Post:
    """Free a place that nobody has used; only for the scheduler that asked for it last."""
    last = post.asked.get(persona_id)
    return given_back(post, persona_id) if last is not None and last.boot == boot else post
