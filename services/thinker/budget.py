"""The context budget [H11–H13]: what of a persona fits the window of the model that thinks for it.

All sizes are in tokens of that model. Of a window of W a tenth (128 to 512) is the system's, a quarter
(256 to 4000) the completion's, and the rest the context's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct, structs

from libs.cognition.phases import phase_of
from libs.cognition.told import NOTHING, Told
from libs.contracts.work import ContextLine, WorkItem
from services.thinker.allocation import (
    CONTEXT,
    INBOX,
    SHARED,
    Share,
    Source,
    allocate,
    floor_of,
    leading,
)
from services.thinker.prompt import SHARED_HEAD, Prompt, asking, build, context_text, message_text

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
    """A prompt that fits, and what of the thought it tells."""

    prompt: Prompt
    told: Told = NOTHING


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


def fit(item: WorkItem, budget: Budget | None, count: Count, wrong: str | None = None) -> Fitted:
    """Return an item's prompt within the budget; `wrong` is `build`'s.

    A persona's identity goes whole. A charter that leaves no room for itself is trimmed at its end, the one
    thing that is; only messages, up to their floor, go before its end. The rest is the context's, whose
    sources share it: of events the newest are told, in time order, of messages the best. Where nothing reads
    it there is no budget.
    """
    whole = build(item, wrong)
    if budget is None or count(whole.user) <= min(budget.context, _room(whole, budget, count)):
        return Fitted(whole, _told(item, item, whole, _everything(item)))
    sources = _sources(item, count)
    room = _room(whole, budget, count) - _frame(item, wrong, count)
    floor = floor_of(min(budget.context, room))
    charter = _trimmed(item.charter, room - sum(leading(sources[INBOX].sizes, floor)), count)
    shares = allocate(sources, min(budget.context, room - count(charter)), floor)
    fitting = structs.replace(
        item,
        charter=charter,
        context=_newest(item.context, shares[CONTEXT]),
        shared=_newest(item.shared, shares[SHARED]),
        inbox=[item.inbox[index] for index in shares[INBOX].taken],
    )
    prompt = build(fitting, wrong)
    return Fitted(prompt, _told(item, fitting, prompt, shares))


def _sources(item: WorkItem, count: Count) -> dict[str, Source]:
    messages = [count(message_text(number, one) + "\n") for number, one in enumerate(item.inbox, start=1)]
    return {
        INBOX: Source(messages, may_skip=True),
        CONTEXT: Source(_sizes(item.context, count)),
        SHARED: Source(_sizes(item.shared, count)),
    }


def _sizes(lines: list[ContextLine], count: Count) -> list[int]:
    """Return what lines take, the newest first."""
    return [count(context_text(line) + "\n") for line in reversed(lines)]


def _newest(lines: list[ContextLine], share: Share) -> list[ContextLine]:
    return lines[len(lines) - len(share.taken) :]


def _frame(item: WorkItem, wrong: str | None, count: Count) -> int:
    """Return what a prompt takes that tells nothing but who the persona is, and what it is asked."""
    bare = build(structs.replace(item, charter="", context=[], shared=[], inbox=[]))
    asked = count(asking(phase_of(item.thought_count), wrong) + "\n") if item.inbox else 0
    return count(bare.user) + asked + (count(SHARED_HEAD + "\n") if item.shared else 0)


def _everything(item: WorkItem) -> dict[str, Share]:
    units = {INBOX: len(item.inbox), CONTEXT: len(item.context), SHARED: len(item.shared)}
    return {name: Share(list(range(count)), count) for name, count in units.items()}


def _told(item: WorkItem, fitting: WorkItem, prompt: Prompt, shares: dict[str, Share]) -> Told:
    found = {name: share.allocation for name, share in shares.items() if share.units}
    return Told(
        prompt=f"{prompt.system}\n{prompt.user}",
        messages=fitting.inbox,
        too_long=[item.inbox[index] for index in shares[INBOX].hopeless],
        context_dropped=len(item.context) - len(fitting.context),
        charter_trimmed=len(item.charter) - len(fitting.charter),
        allocation=found if found.keys() - {CONTEXT} else {},
    )


def _room(prompt: Prompt, budget: Budget, count: Count) -> int:
    """Return how many tokens are left for what stands behind the system prompt."""
    prefill = count(prompt.prefill) if prompt.prefill else 0
    return budget.window - budget.asked - TEMPLATE_TOKENS - count(prompt.system) - prefill


def estimated(text: str) -> int:
    """Return about how many tokens a text takes in a model whose tokenizer is not at hand.

    Three bytes of UTF-8 a token: a third too many for English prose, about right for JSON with times and ids
    in it and for Chinese.
    """
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


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
