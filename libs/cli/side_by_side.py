"""Two answers for a terminal: in two columns where it is wide, else one after the other."""

from __future__ import annotations

from libs.contracts.captures import CapturedAnswer, CapturedSettings
from libs.runtime.plain import plain

WIDE = 100
"""Columns of a terminal from which on two answers stand side by side."""


def facts(settings: CapturedSettings, answer: CapturedAnswer) -> str:
    """Return by what an answer came about and what it cost, in a line."""
    tokens = answer.usage.completion_tokens if answer.usage is not None else None
    said = [
        f"{answer.model or settings.model}",
        f"temperature {settings.temperature:g}",
        f"{tokens} tokens" if tokens is not None else "",
        answer.finish_reason or "",
        f"{answer.latency_ms} ms",
    ]
    return ", ".join(plain(part) for part in said if part)


def said(answer: CapturedAnswer) -> str:
    """Return an answer's text, or why there is none; its line ends stay, other control characters do not."""
    if answer.text is None:
        return f"(no answer: {plain(answer.error or 'no reason given')})"
    return "\n".join(plain(line) for line in answer.text.strip().splitlines()) or "(an empty answer)"


def print_both(titles: tuple[str, str], texts: tuple[str, str], width: int | None = None) -> None:
    """Print two texts under their titles; `width` is the terminal's unless it is given."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False, emoji=False, width=width)
    if console.width < WIDE:
        for title, text in zip(titles, texts, strict=True):
            console.print(Text(title, style="bold"))
            console.print(Text(text + "\n"))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    for title in titles:
        table.add_column(Text(title, style="bold"), ratio=1, overflow="fold")
    table.add_row(*(Text(text) for text in texts))
    console.print(table)
