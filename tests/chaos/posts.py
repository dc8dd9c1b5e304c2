"""Posts to swarms while the storm blows: who has answered, by the stream and by the post's key [A5]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.read import last_of
from libs.cognition.handling import OTHERS_ANSWERED
from libs.contracts import streams, subjects
from libs.contracts.inbox import Outcome, Post
from services.scheduler.places import undecided
from tests.chaos.collector import Event
from tests.chaos.lives import Posted

_decode = msgspec.json.Decoder(Post).decode


class Decided(NamedTuple):
    """What a thought has made of a copy of a post."""

    response: str | None
    alone: bool
    """It took up nothing else, so that its response is to the post."""

    wanted: bool
    """It would have answered, and was not let."""


class Posts:
    """What the stream says of posts."""

    def __init__(self) -> None:
        self.decided: defaultdict[str, dict[str, Decided]] = defaultdict(dict)
        """By post and persona, of those that have handled their copies."""

        self.answers = 0
        """How many answers the keys of posts know that were judged: each is looked for in the stream."""

        self._reached: defaultdict[str, set[str]] = defaultdict(set)
        self._copies: dict[str, str] = {}

    def note(self, event: Event) -> None:
        """Note an event."""
        payload = event.payload
        if event.event_type in ("inbox_received", "inbox_dropped") and payload["post_id"] is not None:
            self._copies[payload["id"]] = payload["post_id"]
            self._reached[payload["post_id"]].add(payload["id"])
        elif event.event_type == "inbox_handled":
            alone, wanted = len(payload["items"]) == 1, payload["error"] == OTHERS_ANSWERED
            for item in payload["items"]:
                post_id = self._copies.get(item["id"])
                if post_id is not None and item["outcome"] == Outcome.HANDLED:
                    self.decided[post_id][event.persona] = Decided(payload["response"], alone, wanted)

    def declined(self) -> int:
        """Return how many have decided and said nothing, though they might have."""
        every = (one for decided in self.decided.values() for one in decided.values())
        return sum(one.response is None and not one.wanted for one in every)

    async def open(self, bus: Bus, posted: Mapping[str, Posted]) -> list[str]:
        """Return the posts on which somebody keeps a place that has not answered, or that cannot be read."""
        found: list[str] = []
        for post_id in posted:
            try:
                post = await _read(bus, post_id)
            except BusError:
                return [*found, post_id]
            if post is not None and undecided(post):
                found.append(post_id)
        return found

    async def findings(self, bus: Bus, posted: Mapping[str, Posted], calm: set[str]) -> list[str]:
        """Compare the stream with what was acknowledged, and with what the keys of posts say.

        Of posts that came after the storm, in `calm`, as many have answered as may where so many would.
        """
        found: list[str] = []
        for post_id, one in posted.items():
            reached = len(self._reached[post_id])
            if reached < one.personas:
                found.append(f"{post_id} was accepted for {one.personas} personas and has come to {reached}")
            post = await _read(bus, post_id)
            if post is None:
                found.append(f"{post_id} was accepted and is gone")
                continue
            found += self.judged(post, one, is_calm=post_id in calm)
        return found

    def judged(self, post: Post, one: Posted, *, is_calm: bool) -> list[str]:
        """Compare what a post's key says, once all have ended, with the stream."""
        found = []
        said, known = self._said(post.id), {answer.persona_id for answer in post.answers}
        self.answers += len(known)
        if max(len(said), len(post.answers), len(known)) > one.most:
            found.append(f"{post.id}: {one.most} may answer; {sorted(said)} have, its key says {known}")
        if keep := undecided(post):
            found.append(f"{post.id}: {keep} keep places and have not answered")
        if more := said - known:
            found.append(f"{post.id}: its key does not know that {sorted(more)} have answered")
        decided = self.decided[post.id]
        if unsaid := {name for name in known if name not in decided or decided[name].response is None}:
            found.append(f"{post.id}: its key says that {sorted(unsaid)} have answered, the stream does not")
        would = sorted(name for name, decision in decided.items() if decision.wanted)
        if is_calm and would and len(known) < one.most:
            found.append(
                f"{post.id}: {len(known)} of {one.most} have answered; {would} would, and were not let"
            )
        return found

    def _said(self, post_id: str) -> set[str]:
        """Return who has answered for certain."""
        decided = self.decided.get(post_id, {})
        return {name for name, one in decided.items() if one.alone and one.response is not None}


async def _read(bus: Bus, post_id: str) -> Post | None:
    found = await last_of(bus, streams.POSTS, subjects.post_key(post_id))
    return _decode(found.data) if found is not None else None
