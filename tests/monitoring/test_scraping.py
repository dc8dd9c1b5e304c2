"""A real Prometheus scrapes a real swarm: every metric of the table, every dashboard's query, an alert."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.table import SERVICES
from tests.support.eventually import eventually_sync
from tests.support.prometheus import Prometheus
from tests.support.swarm import Swarm, swarm

pytestmark = pytest.mark.timeout(300)

DASHBOARDS = Path(__file__).parent.parent.parent / "deploy/grafana/dashboards"
SETTINGS = {"LOOP_INTERVAL_MS": "300", "THINKER_MAX_TOKENS": "8"}


@pytest.fixture(scope="module")
def scraped() -> Iterator[tuple[Swarm, Prometheus]]:
    with swarm("--model", "tiny", settings=SETTINGS) as running:
        running.post("/v1/swarm/personas/root-thinker/inbox", {"content": "Is it calm?"})
        prometheus = Prometheus({name: [port] for name, port in running.metrics_ports(SERVICES).items()})
        try:
            eventually_sync(lambda: prometheus.targets_up() == SERVICES.keys(), 60, "every service scraped")
            yield running, prometheus
        finally:
            prometheus.close()


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_of_the_table_is_there(scraped: tuple[Swarm, Prometheus], service: str) -> None:
    _, prometheus = scraped

    def complete() -> bool:
        assert set(SERVICES[service]) - prometheus.names(service) == set()
        return True

    eventually_sync(complete, 60, f"all of {service}")


def queries() -> list[tuple[str, str]]:
    return [
        (f"{path.stem}: {panel['title']}", target["expr"].replace("$instance", ".*"))
        for path in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]


def test_every_query_of_the_dashboards_returns_data(scraped: tuple[Swarm, Prometheus]) -> None:
    _, prometheus = scraped

    def all_have() -> bool:
        without = [title for title, expression in queries() if not has_data(prometheus, expression)]
        assert without == []
        return True

    eventually_sync(all_have, 120, "data in every panel")


def has_data(prometheus: Prometheus, expression: str) -> bool:
    return any(math.isfinite(float(series["value"][1])) for series in prometheus.query(expression))


def test_the_values_are_those_of_the_swarm(scraped: tuple[Swarm, Prometheus]) -> None:
    running, prometheus = scraped

    def value(expression: str) -> int:
        """What is scraped too late has none for a moment."""
        return int(prometheus.query(expression)[0]["value"][1])

    active = running.get("/v1/cognition/status")["active_persona_count"]
    eventually_sync(lambda: value("sum(perpetua_shards_owned)") == 64, 30, "shards counted")
    eventually_sync(
        lambda: value('max(perpetua_personas{status="active"})') == active, 30, "personas counted"
    )
    eventually_sync(lambda: value('max(perpetua_stream_messages{stream="EVENTS"})') > 3, 30, "events counted")


def test_a_thinker_that_stands_still_is_an_alarm(scraped: tuple[Swarm, Prometheus]) -> None:
    """Runs last. Its process is stopped and goes on afterwards."""
    running, prometheus = scraped
    quiet = {"PerpetuaTargetDown", "PerpetuaNoThinker", "PerpetuaNoRegistry", "PerpetuaNoPublisher"}
    eventually_sync(lambda: not prometheus.firing() & quiet, 60, "no alarm")
    pid = running.pid("thinker")
    os.kill(pid, signal.SIGSTOP)
    try:
        wanted = {"PerpetuaTargetDown", "PerpetuaNoThinker"}
        eventually_sync(lambda: wanted <= prometheus.firing(), 60, "the alarm")
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually_sync(lambda: not prometheus.firing() & wanted, 60, "the end of the alarm")
