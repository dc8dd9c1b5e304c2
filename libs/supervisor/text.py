"""Text for terminals. What personas say is data: no control character of theirs reaches the terminal."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

from libs.contracts.thoughts import EventType, OwnEventType, ThoughtEvent
from libs.runtime.plain import UNSAFE, plain

_CODES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31", "cyan": "36"}
_PHASES = frozenset({"thought_generated", "hypothesis_raised", "check_requested", "snapshot_compressed"})


def style(text: str, kind: str) -> str:
    """Return text in a color, where standard output is a terminal that wants one."""
    if not kind or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[kind]}m{text}\x1b[0m"


def plain_json(text: str) -> str:
    """Return JSON that means the same, control and format characters in its strings written `\\uXXXX`."""
    if text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in UNSAFE and c != "\n" else c for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def brief(text: str, width: int) -> str:
    """Return text on one line of at most so many characters."""
    line = plain(text)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def event_line(event: ThoughtEvent, width: int = 120) -> str:
    """Return an event as one readable line."""
    time = event.timestamp.astimezone().strftime("%H:%M:%S")
    who = plain(event.persona_id or (_is_roll_up(event) and event.swarm_id) or "-")
    return f"{style(time, 'dim')} {style(who, 'cyan')} {brief(_what(event), max(width - len(who) - 10, 20))}"


def _is_roll_up(event: ThoughtEvent) -> bool:
    """Whether it is what a swarm remembers: that is an event of no persona [A18]."""
    return event.event_type == EventType.SNAPSHOT_COMPRESSED and event.persona_id is None


def _what(event: ThoughtEvent) -> str:
    payload = event.payload
    if _is_roll_up(event):
        count = payload.get("cold_snapshot_count")
        of = "a snapshot" if count == 1 else f"{count} snapshots"
        return f"remembers ({of}, {payload.get('model') or 'fallback'}): {payload.get('thinking', '')}"
    if event.event_type in _PHASES:
        by = payload.get("model") or "fallback"
        spent = f", {payload.get('latency_ms', 0)} ms" if payload.get("model") else ""
        taken = payload.get("inbox_item_ids")
        took = f", took up {len(taken)}" if isinstance(taken, list) else ""
        head = f"#{payload.get('thought_count')} {payload.get('phase')} ({by}{spent}{took}) "
        return head + str(payload.get("thinking", ""))
    if event.event_type == "proposal_created":
        return f"proposes: {payload.get('title', '')}"
    if event.event_type == "check_result":
        return f"check result: {payload.get('result_excerpt', payload.get('reason', ''))}"
    if event.event_type == "persona_spawned":
        return f"spawned: {payload.get('name')}, {payload.get('role')}, depth {payload.get('depth')}"
    if event.event_type == "persona_reaped":
        return f"reaped: {payload.get('reason')}"
    of_life = _OF_LIVES.get(event.event_type)
    return of_life(payload) if of_life is not None else event.event_type


def _received(payload: dict[str, Any]) -> str:
    where = payload.get("source_id") or payload.get("domain", "")
    return f"← {where} ({_hundredths(payload.get('priority'))}): {payload.get('content_excerpt', '')}"


def _handled(payload: dict[str, Any]) -> str:
    items = payload.get("items")
    count = len(items) if isinstance(items, list) else 0
    what = "an item" if count == 1 else f"{count} items"
    if payload.get("will_respond") is None:
        return f"{what}, and no decision: {payload.get('error', '')}"
    response = payload.get("response")
    return f"→ {response}" if response else f"reads {what} and does not answer"


def _dropped(payload: dict[str, Any]) -> str:
    error = payload.get("error")
    why = f"{payload.get('reason')}, {error}" if error else payload.get("reason")
    return f"drops an item ({why}): {payload.get('content', '')}"


def _paused(payload: dict[str, Any]) -> str:
    until = f" until {payload.get('resumes_at')}" if payload.get("resumes_at") else ""
    return f"waits for credits of {payload.get('account')}{until}: {payload.get('reason')}"


def _resumed(payload: dict[str, Any]) -> str:
    return f"has credits of {payload.get('account')} again"


def _timed_out(payload: dict[str, Any]) -> str:
    return f"waits no longer for {', '.join(f'{key}={value}' for key, value in payload.items())}"


def _hundredths(priority: object) -> str:
    return f"{priority:.2f}" if isinstance(priority, int | float) else "-"


_OF_LIVES: dict[str, Callable[[dict[str, Any]], str]] = {
    OwnEventType.INBOX_RECEIVED: _received,
    OwnEventType.INBOX_HANDLED: _handled,
    OwnEventType.INBOX_DROPPED: _dropped,
    OwnEventType.BUDGET_PAUSED: _paused,
    OwnEventType.BUDGET_RESUMED: _resumed,
    OwnEventType.DEPENDENCY_TIMED_OUT: _timed_out,
}
