"""A real Prometheus with the rules of `deploy/prometheus`, scraping processes of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.ports import free_port

HOST = "127.0.0.1"
RULES = Path(__file__).parent.parent.parent / "deploy/prometheus"


def binary(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; without it the test is skipped, which CI forbids."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package `prometheus`)")
    return found


class Prometheus:
    """Scrapes every second. `for` of the alerts is cut to nothing, so that a test need not wait for it."""

    def __init__(self, ports: dict[str, list[int]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perpetua-prometheus-"))
        self.port = free_port(HOST)
        (self.folder / "recording.yml").write_text((RULES / "recording.yml").read_text())
        alerts = re.sub(r"(?m)^( +for:) .*$", r"\1 0s", (RULES / "alerts.yml").read_text())
        (self.folder / "alerts.yml").write_text(alerts)
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(_config(ports)))
        command = [
            binary("prometheus"),
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=quiet, stderr=quiet)
        eventually_sync(lambda: self._get("/api/v1/status/buildinfo"), 60, "Prometheus")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression yields now."""
        found: list[dict[str, Any]] = self._get("/api/v1/query", query=expression)["result"]
        return found

    def range(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression over a time, in seconds since the epoch."""
        answer = self._get("/api/v1/query_range", query=expression, start=begin, end=end, step=step)
        series: list[dict[str, Any]] = answer["result"]
        return series

    def names(self, service: str) -> set[str]:
        """Return the names of all metrics that a service exports."""
        found = self._get("/api/v1/label/__name__/values", **{"match[]": f'{{service="{service}"}}'})
        return set(found)

    def targets_up(self) -> set[str]:
        return {series["metric"]["service"] for series in self.query("up == 1")}

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        alerts = self._get("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _get(self, path: str, **parameters: Any) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = fetch(f"http://{HOST}:{self.port}{path}{query}")
        assert answer.status == 200, answer.text
        assert answer.json["status"] == "success", answer.text
        return answer.json["data"]


def _config(ports: dict[str, list[int]]) -> dict[str, Any]:
    targets = [
        {"targets": [f"{HOST}:{port}" for port in found], "labels": {"service": service}}
        for service, found in ports.items()
    ]
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "scrape_configs": [{"job_name": "perpetua", "static_configs": targets}],
    }
