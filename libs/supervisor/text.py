"""Text for terminals. What personas say is data: no control character of theirs reaches the terminal."""

from __future__ import annotations

import json
import os
import sys
import unicodedata

from libs.contracts.thoughts import ThoughtEvent

_CODES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31", "cyan": "36"}
_PHASES = frozenset({"thought_generated", "hypothesis_raised", "check_requested", "snapshot_compressed"})


def style(text: str, kind: str) -> str:
    """Return text in a color, where standard output is a terminal that wants one."""
    if not kind or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[kind]}m{text}\x1b[0m"


def plain(text: str) -> str:
    """Return text on one line, with control and format characters shown as `·`."""
    return "".join(" " if c in "\n\t" else "·" if unicodedata.category(c) in _UNSAFE else c for c in text)


def plain_json(text: str) -> str:
    """Return JSON that means the same, control and format characters in its strings written `\\uXXXX`."""
    if text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSAFE and c != "\n" else c for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


_UNSAFE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def brief(text: str, width: int) -> str:
    """Return text on one line of at most so many characters."""
    line = plain(text)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def event_line(event: ThoughtEvent, width: int = 120) -> str:
    """Return an event as one readable line."""
    time = event.timestamp.astimezone().strftime("%H:%M:%S")
    who = plain(event.persona_id or "-")
    return f"{style(time, 'dim')} {style(who, 'cyan')} {brief(_what(event), max(width - len(who) - 10, 20))}"


def _what(event: ThoughtEvent) -> str:
    payload = event.payload
    if event.event_type in _PHASES:
        by = payload.get("model") or "fallback"
        spent = f", {payload.get('latency_ms', 0)} ms" if payload.get("model") else ""
        head = f"#{payload.get('thought_count')} {payload.get('phase')} ({by}{spent}) "
        return head + str(payload.get("thinking", ""))
    if event.event_type == "proposal_created":
        return f"proposes: {payload.get('title', '')}"
    if event.event_type == "check_result":
        return f"check result: {payload.get('result_excerpt', payload.get('reason', ''))}"
    if event.event_type == "persona_spawned":
        return f"spawned: {payload.get('name')}, {payload.get('role')}, depth {payload.get('depth')}"
    if event.event_type == "persona_reaped":
        return f"reaped: {payload.get('reason')}"
    return event.event_type
