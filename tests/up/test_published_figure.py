"""What the system adds to a thought is measured by a command that runs, and published [H17]."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = (
    "tick begun to subscriber, ms, p50",
    "tick due to begun, ms, mean",
    "tick due to subscriber, ms, p50",
)


@pytest.mark.fact("H17")
def test_the_command_behind_the_figure_runs_and_measures_what_it_says() -> None:
    command = [sys.executable, "-m", "bench.latency", "--personas", "12", "--interval-ms", "300", "--rounds"]
    done = subprocess.run(
        [*command, "2", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["thoughts"] >= 12, "a round of twelve personas, at least"
    begun, late, whole = (found[part] for part in PARTS)
    assert 0 < begun < 300
    assert whole == pytest.approx(begun + late)
    assert found["tick begun to subscriber, ms, p99"] >= begun


@pytest.mark.fact("H17")
def test_the_figure_is_published_beside_its_command_and_the_references() -> None:
    assert "-m bench.latency" in (ROOT / "justfile").read_text()
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    section = re.search(r"^## [^\n]*`just bench-latency`\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert re.search(r"12 personas: p50 \d+(\.\d)? ms", section[1]), "as many as the reference had"
    assert "the reference measured 1 to 3 ms in one process" in " ".join(section[1].split())
