"""What a storm tells of itself."""

from __future__ import annotations

import msgspec

from tests.chaos.__main__ import table
from tests.chaos.plan import Kind
from tests.chaos.storm import Options, Report


def test_a_report_is_kept_as_json_and_faults_are_counted_by_kind_over_storms() -> None:
    report = Report(Options(7, 3))
    report.note(Kind.KILL, done=True)
    report.note(Kind.KILL, done=True)
    report.note(Kind.BROKER_KILL, done=False)
    kept = msgspec.json.decode(msgspec.json.encode(report), type=Report)
    assert kept == report
    rows = table([kept, kept]).splitlines()
    assert len(rows) == len(Kind) + 3
    assert "| kill | 4 | 0 |" in rows
    assert "| broker kill | 0 | 2 |" in rows
    assert rows[-1] == "| all, in 2 storms | 4 | 2 |"
