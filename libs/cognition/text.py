"""Trimming and counting of thought text [3.8–3.10]. Lengths are in characters (code points)."""

from __future__ import annotations

THINKING_CHARS = 2000
SUMMARY_CHARS = 1500
RATIONALE_CHARS = 900
RESULT_EXCERPT_CHARS = 280
RATIONALE_EXCERPT_CHARS = 220
CONTEXT_EXCERPT_CHARS = 220
TITLE_CHARS = 72
RESPONSE_CHARS = 4000
ERROR_CHARS = 1000
FINISH_REASON_CHARS = 64

_MAX_FACTS = 12


def trim(text: str, limit: int) -> str:
    """Return `text` stripped, or its first `limit` characters and `...`, stripped, where it is longer."""
    if len(text) <= limit:
        return text.strip()
    return f"{text[:limit]}...".strip()


def count_facts(thought: str) -> int:
    """Return the number of `.`, `!` and `?`, held between 1 and 12 [3.9]."""
    marks = thought.count(".") + thought.count("!") + thought.count("?")
    return min(max(marks, 1), _MAX_FACTS)


def proposal_title(thought: str, thought_count: int) -> str:
    """Return the first non-blank line with whitespace runs made one blank, trimmed [3.8]."""
    first = next((line for line in thought.splitlines() if line.strip()), "")
    return trim(" ".join(first.split()), TITLE_CHARS) or f"proposal-{thought_count}"
