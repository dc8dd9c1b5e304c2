"""How many numbered facts of the specification hold, by the tests that cite them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance.facts import FACTS


def facts_report(terminal: pytest.TerminalReporter) -> str:
    """Return a line a fact and how many hold: those with tests of which none failed."""
    passed, failed = _count(terminal, "passed"), _count(terminal, "failed", "error", "skipped")
    lines = [""]
    for number, fact in FACTS.items():
        good, bad = passed[number], failed[number]
        verdict = "holds " if good and not bad else "FAILS " if bad else "untested"
        lines.append(f"{number:5} {verdict:9} {good:3} of {good + bad:3} tests   {fact.title}")
    holding = sum(1 for number in FACTS if passed[number] and not failed[number])
    return "\n".join([*lines, f"{holding} of {len(FACTS)} facts hold"])


def _count(terminal: pytest.TerminalReporter, *kinds: str) -> Counter[str]:
    reports = [report for kind in kinds for report in terminal.stats.get(kind, [])]
    return Counter(number for report in reports for number in getattr(report, "facts", []))
