"""A persona's inner state in words for people."""

from __future__ import annotations

from typing import Any

from libs.cli import output


def mood(life: dict[str, Any] | None) -> str | None:
    """Return a persona's mood, and that it waits for credits where it does."""
    if life is None:
        return None
    return f"{life['mood']}, paused" if life["paused"] else str(life["mood"])


def life_rows(life: dict[str, Any] | None) -> list[tuple[str, object]]:
    """Return what `personas show` says of a life; nothing before a scheduler knows it."""
    if life is None:
        return []
    rows: list[tuple[str, object]] = [
        ("mood", life["mood"]),
        ("energy", output.bar(life["energy"])),
        ("attention", output.bar(life["attention"])),
        ("credits left this minute", output.bar(life["compute_budget"])),
        ("waits in its inbox", life["inbox_load"]),
        ("responses in the last minute", life["response_count"]),
        ("last activity", output.ago(life["last_activity_at"])),
        ("looks next", life["next_look_at"]),
        ("without progress", output.span(life["idle_secs"])),
        ("tokens", life["tokens"]),
        ("thinking", output.span(life["cpu_ms"] / 1000)),
    ]
    if life["paused"] is not None:
        rows.append(("paused", _paused(life["paused"])))
    if life["waiting_for"]:
        rows.append(("waits for", ", ".join(life["waiting_for"])))
    return rows


def _paused(paused: dict[str, Any]) -> str:
    until = paused["resumes_at"]
    end = f"until {until}" if until is not None else "for good: a thought costs more than a minute has"
    return f"for {paused['credit']} of {paused['account']}, since {output.ago(paused['since'])}, {end}"
