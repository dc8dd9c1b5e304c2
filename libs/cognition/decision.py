"""The decision of a persona that has messages: whether to respond, and the response [H15]. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

WILL_RESPOND = "will_respond"
RESPONSE = "response"

INSTRUCTION = (
    f"Answer with one JSON object and nothing before or after it. It has exactly two fields. "
    f"The field {WILL_RESPOND} is a boolean: true if the persona responds to the messages, false if it stays "
    f"silent because they do not concern it or nothing is worth saying. "
    f"The field {RESPONSE} is a string: what the persona says, in plain text, or the empty string when it "
    f"stays silent."
)
"""Describes the answer to a model in prose: an example is what a small model would copy."""

_FENCE = "```"
_LANGUAGE = re.compile(r"[A-Za-z]*")
_NAMES = {bool: "a boolean", str: "a string", type(None): "null", list: "a list", dict: "an object"}


class Decision(Struct, frozen=True):
    """What a model decided, as it said it."""

    will_respond: bool
    response: str

    @property
    def answer(self) -> str | None:
        """The response without surrounding white space; None where the persona skips.

        It skips where it will not respond, or will with nothing in its response.
        """
        return (self.response.strip() or None) if self.will_respond else None


class NoDecision(ValueError):
    """A model's answer is no decision. Asking again may help; nothing is ever taken for granted instead."""

    def __init__(self, problem: str, field: str | None = None) -> None:
        super().__init__(f"no decision: {f'{field}: ' if field else ''}{problem}")
        self.field = field
        """The field that is missing or wrong; None where the answer as a whole is."""

        self.problem = problem


def parse_decision(text: str) -> Decision:
    """Return the decision that a model's answer is.

    White space around it and one code fence are passed over, and so are fields that nobody asked for.
    Anything else than one JSON object with both fields, each once and of its type, raises `NoDecision`.
    """
    if not text.strip():
        raise NoDecision("the answer is empty")
    fields = _object(_unfenced(text.strip()))
    will_respond = _field(fields, WILL_RESPOND, bool)
    response = _field(fields, RESPONSE, str)
    if not _is_encodable(response):
        raise NoDecision("holds half of a surrogate pair", RESPONSE)
    return Decision(will_respond, response)


def _unfenced(text: str) -> str:
    inner = text.removeprefix(_FENCE).removesuffix(_FENCE)
    if len(inner) != len(text) - 2 * len(_FENCE):
        return text
    return inner[_LANGUAGE.match(inner).end() :]  # type: ignore[union-attr] # it matches nothing too


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except NoDecision:
        raise
    except (ValueError, RecursionError) as error:
        raise NoDecision(f"the answer is not one JSON object ({error})") from error
    if not isinstance(found, dict):
        raise NoDecision(f"the answer is {_named(found)}, not an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that is there twice: which of them is meant would be a guess."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields and name in (WILL_RESPOND, RESPONSE):
            raise NoDecision("is there twice", name)
        fields[name] = value
    return fields


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    if name not in fields:
        raise NoDecision("is missing", name)
    if not isinstance(fields[name], kind):
        raise NoDecision(f"is {_named(fields[name])}, not {_NAMES[kind]}", name)
    return fields[name]


def _named(value: Any) -> str:
    return _NAMES.get(type(value), "a number")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
