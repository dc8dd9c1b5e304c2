"""What docker-compose.yml says, read as text: no container runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from libs.contracts.permissions import ADMIN
from libs.contracts.permissions import SERVICES as USERS
from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import process_reader, read_process
from libs.settings.tracing import read_tracing, tracing_reader
from libs.supervisor.certificates import make_certificates
from libs.supervisor.handing import hand_out
from libs.supervisor.keys import make_keys
from tests.support.containers import ROOT

SETTLED = {
    "PERPETUA_DATA_DIR", "PERPETUA_METRICS_HOST", "PERPETUA_METRICS_PORT",  # by the image
    "PERPETUA_INSTANCE", "PERPETUA_RESTARTS",  # for `perpetua up`, or by itself
    "PERPETUA_NATS_CREDS_FILE", "PERPETUA_NATS_TLS_CERT", "PERPETUA_NATS_TLS_KEY",  # the broker knows keys
}  # fmt: skip

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
        "cli": ["cli"],
    }


def test_every_setting_is_passed_on_that_is_not_settled_by_the_file_or_the_image() -> None:
    cognition, process = cognition_reader({}), process_reader({})
    read_cognition(cognition)
    read_process(process, "registry")
    tracing = tracing_reader({})
    read_tracing(tracing)
    described = (*cognition.described, *process.described, *tracing.described)
    known = {one.name for one in described}
    assert {name for name in known if f"  {name}:" not in TEXT} == SETTLED


def test_only_who_thinks_is_given_the_key_of_the_endpoint() -> None:
    key = "CODETETHER_COGNITION_THINKER_API_KEY"
    given = {name for name, spec in services().items() if key in (spec.get("environment") or {})}
    assert given == {"thinker", "thinker-gpu", "cli"}


def seen(tmp_path: Path) -> dict[str, set[str]]:
    """The files of keys and certificates in the volumes of each service, but `keys`, which makes them."""
    keys, certificates, each = (tmp_path / name for name in ("keys", "certificates", "each"))
    make_keys(keys)
    make_certificates(certificates, ())
    hand_out(each, keys, certificates)
    mounts = {name: [one.split(":") for one in spec.get("volumes", ())] for name, spec in services().items()}
    folders = {"keys": keys, "certificates": certificates}
    folders |= {
        source: each / Path(target).name for source, target, *_ in mounts.pop("keys") if "/each/" in target
    }
    return {
        name: {file.name for source, *_ in found if source in folders for file in folders[source].iterdir()}
        for name, found in mounts.items()
    }


def test_each_container_is_given_the_seed_of_its_own_user_alone(tmp_path: Path) -> None:
    found = {name: {file for file in files if file.endswith(".nk")} for name, files in seen(tmp_path).items()}
    own = {user: {f"{user}.nk"} for user in USERS}
    own |= {
        "provision": {f"{ADMIN}.nk"},
        "cli": {f"{ADMIN}.nk"},
        "thinker-gpu": {"thinker.nk"},
        "gateway-tls": {"gateway.nk"},
    }
    assert {name: seeds for name, seeds in found.items() if seeds} == own


def test_keys_of_certificates_are_given_to_who_shows_the_certificate(tmp_path: Path) -> None:
    found = {
        name: {file for file in files if file.endswith(".key")} for name, files in seen(tmp_path).items()
    }
    assert {name: keys for name, keys in found.items() if keys} == {
        "nats": {"tls.key"},
        "gateway-tls": {"tls.key"},
    }


def test_no_container_but_that_of_the_keys_is_given_the_whole_folders() -> None:
    for name, spec in services().items():
        whole = [
            one for one in spec.get("volumes", ()) if one.startswith(("keys:", "${PERPETUA_CERTIFICATES"))
        ]
        assert bool(whole) == (name == "keys"), name
