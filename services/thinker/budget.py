"""The context budget [H11, H12]: what of a persona fits the window of the model that thinks for it.

All sizes are in tokens of that model. Of a window of W a tenth (128 to 512) is the system's, a quarter
(256 to 4000) the completion's, and the rest the context's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec import Struct

from libs.cognition.compose import Omitted
from libs.contracts.work import ContextLine, WorkItem
from services.thinker.prompt import Prompt, build, context_text

TEMPLATE_TOKENS = 64
"""What a chat template may add around a prompt: turn markers, a date; kept free."""

ENDPOINT_WINDOW = 4096
"""Taken for an endpoint's model unless told otherwise: no such server says, and more than one gives its
models this much by default and cuts what is longer without a word."""

_BYTES_A_TOKEN = 3

Count: TypeAlias = Callable[[str], int]
"""Returns how many tokens a text takes."""


class Budget(Struct, frozen=True, kw_only=True):
    """The shares of a model's window, and what the model is asked for."""

    window: int
    system: int
    completion: int
    context: int
    asked: int
    """The most tokens of an answer: the completion's share, or THINKER_MAX_TOKENS where that is less."""


class Fitted(Struct, frozen=True):
    """A prompt that fits, and what had to be left out of it."""

    prompt: Prompt
    omitted: Omitted = Omitted()


def budget_of(window: int, max_tokens: int) -> Budget:
    """Return the shares of a window: 2048 → 204, 512, 1332; 32768 → 512, 4000, 28256 [H11]."""
    system = _clamp(window // 10, 128, 512)
    completion = _clamp(window // 4, 256, 4000)
    return Budget(
        window=window,
        system=system,
        completion=completion,
        context=max(window - system - completion, 0),
        asked=min(completion, max_tokens),
    )


def fit(item: WorkItem, budget: Budget | None, count: Count) -> Fitted:
    """Return an item's prompt within the budget.

    A persona's identity goes whole. A charter that leaves no room for itself is trimmed at its end, the one
    thing that is. Context is packed newest first until its share is full, and told in time order; no unit is
    cut, and none older than one that was left out is told. Where nothing reads it there is no budget.
    """
    whole = build(item)
    if budget is None or count(whole.user) <= min(budget.context, _room(whole, budget, count)):
        return Fitted(whole)
    bare = build(msgspec.structs.replace(item, charter="", context=[]))
    room = _room(bare, budget, count) - count(bare.user)
    charter = _trimmed(item.charter, room, count)
    context = _packed(item.context, min(budget.context, room - count(charter)), count)
    omitted = Omitted(
        context=len(item.context) - len(context), charter_chars=len(item.charter) - len(charter)
    )
    return Fitted(build(msgspec.structs.replace(item, charter=charter, context=context)), omitted)


def _room(prompt: Prompt, budget: Budget, count: Count) -> int:
    """Return how many tokens are left for what stands behind the system prompt."""
    return budget.window - budget.asked - TEMPLATE_TOKENS - count(prompt.system)


def estimated(text: str) -> int:
    """Return about how many tokens a text takes in a model whose tokenizer is not at hand.

    Three bytes of UTF-8 a token: a third too many for English prose, about right for JSON with times and ids
    in it and for Chinese.
    """
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


def _packed(lines: list[ContextLine], room: int, count: Count) -> list[ContextLine]:
    """Return the newest lines that fit, in time order."""
    kept = len(lines)
    while kept and (room := room - count(context_text(lines[kept - 1]) + "\n")) >= 0:
        kept -= 1
    return lines[kept:]


def _trimmed(text: str, room: int, count: Count) -> str:
    """Return the longest beginning of a text that fits, by halving: 13 counts at most."""
    if count(text) <= room:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count(text[:middle]) <= room:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def _clamp(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)
