"""What docker-compose.yml says, read as text: no container runs here."""

from __future__ import annotations

from typing import Any

import yaml

from libs.settings.cognition import cognition_reader, read_cognition
from tests.support.containers import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)["services"]
    return found


def test_only_gateways_and_grafana_are_published_where_the_readme_says() -> None:
    assert {name: spec["ports"] for name, spec in services().items() if "ports" in spec} == {
        "gateway": ["${PERPETUA_PUBLISH_ADDRESS:-127.0.0.1}:${PERPETUA_GATEWAY_PORT:-4096}:4096"],
        "gateway-tls": ["${PERPETUA_TLS_PUBLISH_ADDRESS:-127.0.0.1}:${PERPETUA_TLS_PORT:-4443}:4096"],
        "grafana": ["${GRAFANA_PUBLISH_ADDRESS:-127.0.0.1}:${GRAFANA_PORT:-3000}:3000"],
    }
    readme = (ROOT / "README.md").read_text()
    assert "<http://127.0.0.1:4096/>" in readme
    assert "<http://127.0.0.1:3000/>" in readme


def test_profiles_add_services_and_change_no_other() -> None:
    assert {name: spec["profiles"] for name, spec in services().items() if "profiles" in spec} == {
        "thinker-gpu": ["gpu"],
        "ollama": ["ollama"],
        "gateway-tls": ["tls"],
    }


def test_every_setting_of_the_reference_is_passed_on() -> None:
    reader = cognition_reader({})
    read_cognition(reader)
    assert [d.name for d in reader.described if f"  {d.name}:\n" not in TEXT] == []


def test_only_thinkers_are_given_the_key_of_the_endpoint() -> None:
    key = "CODETETHER_COGNITION_THINKER_API_KEY"
    given = {name for name, spec in services().items() if key in (spec.get("environment") or {})}
    assert given == {"thinker", "thinker-gpu"}
