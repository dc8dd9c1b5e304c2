"""What others say reaches no terminal as it is, in logs for people either."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.test_terminal_text import HOSTILE, is_safe

_PROGRAM = f"""
import logging, structlog
from libs.runtime import logs

logs.configure(log_format="console", level="info", service="s", instance="i")
hostile = {HOSTILE!r}
log = structlog.get_logger("test")
log.info("heard", subject=hostile, count=7, several=[hostile], error=ValueError(hostile))
logging.getLogger("library").warning(hostile)
try:
    raise ValueError(hostile + "\\n2026-01-02T00:00:00Z [info] forged")
except ValueError:
    log.exception("it_failed")
"""


def test_no_control_character_of_others_reaches_a_terminal_by_a_log() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, timeout=60, check=True)
    said = ended.stderr.decode("utf-8", "strict").splitlines()
    assert all(is_safe(line) for line in said)
    assert "heard" in said[0]
    assert "subject=·[2J·]0;owned··31m" in said[0]
    assert "count=7" in said[0]
    assert "library_log" in said[1]
    assert "it_failed" in said[2]
    assert any(line.startswith("Traceback") for line in said), "a traceback keeps its lines"
