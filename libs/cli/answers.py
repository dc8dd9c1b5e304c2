"""`perpetua send --wait`: what becomes of an item, followed in the event stream."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from libs.cli.api import Api, GatewayAway, segment
from libs.cli.errors import CliError
from libs.cli.sending import Target
from libs.cli.watch import TimeIsUp, followed
from libs.contracts.inbox import DropReason, Outcome, copy_id
from libs.contracts.thoughts import OwnEventType, Source
from libs.runtime.plain import plain
from libs.supervisor.text import style

_HANDLED, _DROPPED = OwnEventType.INBOX_HANDLED, OwnEventType.INBOX_DROPPED
_SKIPPED, _PERHAPS = "events were skipped meanwhile", "what became of it may be among them"
_HELD_MOST = 1000
_EVENT_WITHIN_S = 10.0
"""Seconds within which an item's event comes, where it does, once its inbox holds it no longer."""


@dataclass
class Ended:
    """What became of one persona's item."""

    persona_id: str
    outcome: str
    """`handled`, or why it was dropped."""

    response: str | None = None
    error: str | None = None


@dataclass
class Waiting:
    """Takes events until each item of an answer to `send` has ended."""

    answer: dict[str, Any]
    ended: list[Ended] = field(default_factory=list)
    unanswerable: bool = False
    """Whether it was said that no model thinks."""

    @property
    def wanted(self) -> int:
        """How many items there are."""
        personas: int = self.answer.get("personas", 1)
        return personas

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return len(self.ended) >= self.wanted

    def take(self, event: dict[str, Any]) -> Ended | str | None:
        """Return what an event says of our items: the end of one, that one is tried again, or nothing."""
        persona_id, payload = event["persona_id"], event["payload"]
        item_id = self._item_of(persona_id)
        if any(one.persona_id == persona_id for one in self.ended):
            return None
        if event["event_type"] == _DROPPED and payload["id"] == item_id:
            return self._end(Ended(persona_id, payload["reason"], None, payload["error"]))
        if event["event_type"] == _HANDLED:
            for item in payload["items"]:
                if item["id"] == item_id:
                    return self._handled(persona_id, item["outcome"], payload)
        return None

    def without_model(self, event: dict[str, Any]) -> str | None:
        """Return, once, why whom we asked cannot answer now: a thought that no model had."""
        payload = event["payload"]
        kind = "swarm_id" if "post_id" in self.answer else "persona_id"
        if self.unanswerable or event[kind] != self.answer[kind] or "error" not in payload:
            return None
        if payload.get("source") != Source.FALLBACK:
            return None
        self.unanswerable = True
        why = payload["error"] or "thinking is switched off"
        return f"{event['persona_id']} thinks without a model, and only a model answers: {why}"

    def _handled(self, persona_id: str, outcome: str, payload: dict[str, Any]) -> Ended | str | None:
        if outcome == Outcome.HANDLED:
            return self._end(Ended(persona_id, outcome, payload["response"]))
        if outcome == Outcome.FAILED:
            return f"{persona_id} has tried and failed: {payload['error']}; it tries again"
        return None

    def _end(self, ended: Ended) -> Ended:
        self.ended.append(ended)
        return ended

    def _item_of(self, persona_id: str | None) -> str | None:
        """Return the id of a persona's item; of a post each has its own."""
        if persona_id is None:
            return None
        if "post_id" in self.answer:
            return copy_id(self.answer["post_id"], persona_id)
        item_id: str = self.answer["item_id"]
        return item_id if persona_id == self.answer["persona_id"] else None


def wait(api: Api, to: Target, waiting: Waiting, after: int, within: float, *, as_json: bool) -> int:
    """Print what becomes of the items; return 0 where each was handled. Raises `CliError` after `within`.

    Where events were skipped, what became of the items may be among them; it does not wait for what an inbox
    holds no longer.
    """
    if not as_json:
        _aside(f"stored; waits for what becomes of it, {within:g} s at most{_stopped(api)}", "dim")
    clock = time.monotonic
    end, place, skipped, gone = clock() + within, after, "", False
    try:
        while (skip := _taken(api, to, waiting, place, end - clock(), as_json)) is not None:
            place, skipped = skip.place, f"; {_SKIPPED}, and {_PERHAPS}"
            _aside(f"the stream has {skip.said} events, and {_PERHAPS}", "yellow")
            if not _may_be_held(api, waiting):
                gone, end = True, min(end, clock() + _EVENT_WITHIN_S)
    except TimeIsUp:
        if gone:
            raise CliError(
                f"what became of it is not known: {_SKIPPED}, and its inbox holds it no longer"
            ) from None
        raise CliError(
            f"{waiting.wanted - len(waiting.ended)} of {waiting.wanted} not handled within {within:g} s; "
            "what is stored is handled later: see `perpetua inbox` and `perpetua watch --type inbox_handled`"
            f"{skipped}"
        ) from None
    return 0 if all(one.outcome == Outcome.HANDLED for one in waiting.ended) else 1


@dataclass(frozen=True)
class _Skip:
    """Events were evicted before they could be followed."""

    said: str
    place: int


def _taken(api: Api, to: Target, waiting: Waiting, after: int, within: float, as_json: bool) -> _Skip | None:
    """Say what becomes of the items, until nothing more will come (None), or events were skipped."""
    for name, place, data in followed(api, after, within):
        if name == "lag":
            return _Skip(data, after if place is None else place)
        if name not in ("cognition", "perpetua"):
            continue
        event = json.loads(data)
        said = waiting.take(event) or waiting.without_model(event)
        if said is not None:
            _say(said, to, as_json)
        if waiting.over:
            break
    return None


def _stopped(api: Api) -> str:
    """Return that nobody thinks, where the loop is stopped."""
    try:
        stopped = not api.get("/v1/cognition/status")["running"]
    except GatewayAway:
        return ""
    return ". The loop does not run: `perpetua start` starts it" if stopped else ""


def _may_be_held(api: Api, waiting: Waiting) -> bool:
    """Whether an item may still wait in its inbox. Of a post it is not known who has copies."""
    if "post_id" in waiting.answer:
        return True
    persona_id, item_id = waiting.answer["persona_id"], waiting.answer["item_id"]
    try:
        found = api.get(f"/v1/swarm/personas/{segment(persona_id)}/inbox", limit=_HELD_MOST)
    except CliError:
        return True
    return found["held"] > len(found["items"]) or any(item["id"] == item_id for item in found["items"])


def _say(said: Ended | str, to: Target, as_json: bool) -> None:
    """Print the response, and on standard error what else there is to say."""
    if as_json:
        return None
    if isinstance(said, str):
        return _aside(said, "yellow")
    if said.outcome != Outcome.HANDLED:
        error = f": {said.error}" if said.error else ""
        return _aside(
            f"{said.persona_id} has dropped it, {_WHY.get(said.outcome, said.outcome)}{error}", "red"
        )
    if not said.response:
        return _aside(f"{said.persona_id} has read it and does not answer", "dim")
    who = f"{plain(said.persona_id)}: " if to.is_swarm else ""
    return print(who + "\n".join(plain(line) for line in said.response.split("\n")), flush=True)


def _aside(text: str, color: str) -> None:
    print(style(plain(text), color), file=sys.stderr)


_WHY: dict[str, str] = {
    DropReason.FULL: "since its inbox is full of what is more urgent",
    DropReason.FAILED: "since it has failed as often as may be",
    DropReason.UNKNOWN_PERSONA: "since there is no such persona",
    DropReason.PERSONA_REAPED: "since the persona is reaped",
}
