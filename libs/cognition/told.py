"""What of a persona and its messages a model was told, and what its window had no room for [H11–H13]."""

from __future__ import annotations

from msgspec import Struct

from libs.contracts.work import TakenItem


class Told(Struct, frozen=True, kw_only=True):
    """What a prompt was made of."""

    prompt: str = ""
    """The prompt itself, to tell a thought that parrots it [A19]."""

    messages: list[TakenItem] = []
    """Best first. Others of the thought's items had no room beside these, and may come another time."""

    too_long: list[TakenItem] = []
    """Messages that would have no room alone either."""

    context_dropped: int = 0
    """Events of the context that were left out."""

    charter_trimmed: int = 0
    """Characters left out at the charter's end."""

    allocation: dict[str, str] = {}
    """Per source `satisfied`, `floor` or `dropped`; empty where there is but the context."""


NOTHING = Told()
