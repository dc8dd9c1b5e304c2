"""Rules are valid; each alert fires in its unit test, is quiet on a healthy system, and has its page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.table import NAMES
from tests.support.prometheus import RULES, binary

ROOT = Path(__file__).parent.parent.parent
MADE = re.compile(
    r'(?:Counter|Gauge|Histogram|Enum|Info|by_stream|metric|GaugeMetricFamily)\(\s*"(perpetua_[a-z_]+)"'
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [binary("promtool"), *arguments], cwd=RULES, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "recording.yml", "alerts.yml")


def test_the_unit_tests_of_the_rules_pass() -> None:
    promtool("test", "rules", "tests.yml")


def test_each_alert_fires_in_one_of_them_and_is_quiet_on_a_healthy_system() -> None:
    tests = yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
    fires: set[str] = set()
    quiet: set[str] = set()
    for test in tests:
        for case in test.get("alert_rule_test", []):
            (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert fires == names
    assert quiet == names


def test_each_alert_has_a_page_of_what_to_do() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    lines = dict(re.findall(r"(?m)^### (Perpetua\w+)\n(.+)$", page))
    assert lines.keys() == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_the_table_names_every_metric_of_the_code() -> None:
    named = set()
    for folder in ("libs", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            named |= set(MADE.findall(path.read_text()))
    stored = NAMES
    bare = {re.sub(r"_bucket$|_info$", "", name) for name in stored}
    assert named - bare == set(), "metrics that the table lacks"
    assert {name for name in bare if name.startswith("perpetua_")} - named == set(), "metrics that are gone"


def test_rules_and_dashboards_ask_only_for_metrics_that_exist() -> None:
    known = {name.removesuffix("_bucket") for name in NAMES}
    texts = [path.read_text() for path in (*RULES.glob("*.yml"), *(ROOT / "deploy/grafana").rglob("*.json"))]
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for text in texts
        for name in re.findall(r"\bperpetua_[a-z_]+", text)
    }
    assert asked - known == set()


def test_the_dashboards_are_what_their_generator_writes() -> None:
    command = [sys.executable, "deploy/grafana/generate.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, timeout=100, check=False).returncode == 0
