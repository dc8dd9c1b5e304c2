"""Who answers a post to a swarm, and who sees the answers, through the whole system [A5]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from libs.cognition.handling import OTHERS_ANSWERED
from tests.life.conftest import reply, user_prompt
from tests.life.support import charter, make_rested, payloads
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm
from tests.unit.messages import decision

TRIES = 3

Decide = Callable[[str], str]
"""Returns what the model answers for a persona that is asked about the post."""


class Asked:
    """A model that notes who is asked about a post, in order, and what each is told."""

    def __init__(self, names: Sequence[str], content: str, decide: Decide) -> None:
        self.prompts: dict[str, str] = {}
        self._names = names
        self._content = content
        self._decide = decide

    def __call__(self, request: dict[str, Any]) -> str:
        told = user_prompt(request)
        if self._content not in told:
            return reply(request)
        name = next(name for name in self._names if charter(name) in told)
        self.prompts.setdefault(name, told)
        return self._decide(name)

    @property
    def names(self) -> list[str]:
        """Who was asked, in order."""
        return list(self.prompts)


def post(up: Swarm, swarm_id: str, content: str, **more: Any) -> None:
    up.post(f"/v1/swarm/swarms/{swarm_id}/inbox", {"content": content} | more)


def handled(up: Swarm, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Wait until each has handled its copy, and return the decisions."""

    def all_of_them() -> dict[str, dict[str, Any]] | None:
        found = {name: own[-1] for name in names if (own := payloads(up, "inbox_handled", name))}
        return found if len(found) == len(names) else None

    return eventually_sync(all_of_them, 40, f"{names} have decided") or {}


@pytest.mark.fact("A5")
def test_who_declines_leaves_the_answer_to_others_and_the_rest_see_the_answers(
    up: Swarm, model: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five the first two decline, two others answer, and the last would, but may not."""
    names = [f"decline-{number}" for number in range(5)]
    make_rested(up, *names, swarm_id="declining")
    asked = Asked(names, "Who knows of the tide?", lambda name: decide(name))

    def decide(name: str) -> str:
        declines = name in asked.names[:2]
        return decision(False, "") if declines else decision(True, f"The tide of {name}.")

    monkeypatch.setattr(model, "reply", asked)
    post(up, "declining", "Who knows of the tide?")
    decided = handled(up, names)
    *declined, third, fourth, last = asked.names
    assert [decided[name]["will_respond"] for name in asked.names] == [False, False, True, True, True]
    said = {name: payload["response"] for name, payload in decided.items() if payload["response"]}
    assert said == {third: f"The tide of {third}.", fourth: f"The tide of {fourth}."}
    assert decided[last]["error"] == OTHERS_ANSWERED
    assert all(f"{name}: {text}" in asked.prompts[last] for name, text in said.items())
    assert not any("Answers so far" in asked.prompts[name] for name in declined)


@pytest.mark.fact("A5")
def test_the_place_of_who_is_reaped_before_it_answers_is_the_next_one_s(
    up: Swarm, model: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"reaped-{number}" for number in range(3)]
    make_rested(up, *names, swarm_id="reaping")
    over = threading.Event()

    def decide(name: str) -> str:
        if name == asked.names[0]:
            over.wait(20)
        return decision(True, f"So says {name}.")

    asked = Asked(names, "Who knows of the reef?", decide)
    monkeypatch.setattr(model, "reply", asked)
    try:
        post(up, "reaping", "Who knows of the reef?", answers_most=1)
        eventually_sync(lambda: asked.names, 30, "somebody has the place")
        first = asked.names[0]
        up.post(f"/v1/swarm/personas/{first}/reap", {})
        rest = [name for name in names if name != first]
        decided = handled(up, rest)
    finally:
        over.set()
    second, last = asked.names[1:]
    assert decided[second]["response"] == f"So says {second}."
    assert f"{second}: So says {second}." in asked.prompts[last]
    assert decided[last]["response"] is None
    assert not payloads(up, "inbox_handled", first), "it has answered nothing"


@pytest.mark.fact("A5")
def test_who_is_named_answers_and_next_is_whom_the_post_concerns(
    up: Swarm, model: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is named asks a tenth of a second before whom the post concerns.

    A machine that stands still while their copies come gets another try.
    """
    first: list[list[str]] = []
    while len(first) < TRIES and not (first and first[-1] == ["weasel", "otter"]):
        number = len(first)
        names = [f"{animal}-{number}" for animal in ("badger", "otter", "heron", "weasel")]
        make_rested(up, *names, swarm_id=f"concerned-{number}")
        content = f"What of the otter, @Weasel-{number}?"
        asked = Asked(names, content, lambda name: decision("weasel" not in name, "It swims."))
        monkeypatch.setattr(model, "reply", asked)
        post(up, f"concerned-{number}", content, answers_most=1)
        decided = handled(up, names)
        first.append([name.partition("-")[0] for name in asked.names[:2]])
        responded = [name for name in names if decided[name]["response"]]
        assert len(responded) == 1
    assert first[-1] == ["weasel", "otter"], first
    assert responded == [names[1]], "the next one"
