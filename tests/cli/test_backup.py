"""`perpetua backup` and `restore`: what a broker holds comes back on another, where thinking goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

SETTINGS = {"LOOP_INTERVAL_MS": "100"}


def perpetua(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ, check=False)


def on(broker: Broker) -> Swarm:
    return Swarm("--nats-url", broker.url, settings=SETTINGS)


def counts_of(running: Swarm, persona_id: str) -> list[int]:
    return [
        event["payload"]["thought_count"]
        for event in running.events()
        if event["persona_id"] == persona_id and "thinking" in event["payload"]
    ]


@pytest.mark.timeout(240)
def test_a_backup_is_restored_on_another_broker_and_thinking_goes_on(broker: Broker, tmp_path: Path) -> None:
    file, other = tmp_path / "all.tar", Broker()
    first, second = on(broker), on(other)
    try:
        first.start()
        body = {"persona_id": "ann", "name": "Ann", "role": "critic", "charter": "c", "swarm_id": "s"}
        first.post("/v1/swarm/personas", body)
        eventually_sync(lambda: first.get("/v1/swarm/personas/ann")["thought_count"] > 8, 60, "thoughts")

        refused = perpetua("backup", file, "--nats-url", broker.url)
        assert refused.returncode == 1
        assert "stop the services first" in refused.stderr
        assert not file.exists()

        first.stop()
        saved = perpetua("backup", file, "--nats-url", broker.url, "--json")
        assert saved.returncode == 0, saved.stderr
        counts = json.loads(saved.stdout)["messages"]
        assert counts["EVENTS"] > 8
        assert counts["KV_personas"] == 2
        again = perpetua("backup", file, "--nats-url", broker.url)
        assert "exists" in again.stderr

        restored = perpetua("restore", file, "--nats-url", other.url, "--json")
        assert restored.returncode == 0, restored.stderr
        assert json.loads(restored.stdout)["messages"] == counts

        second.start()
        before = counts["EVENTS"]
        eventually_sync(lambda: len(second.events()) > before + 10, 60, "further events")
        assert second.get("/v1/swarm/personas/ann")["identity"]["name"] == "Ann"
        thoughts = counts_of(second, "ann")
        assert thoughts == list(range(1, len(thoughts) + 1))
    finally:
        first.close()
        second.close()
        other.close()


def test_what_is_there_is_replaced_only_when_asked(broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "empty.tar"
    assert perpetua("provision", "--nats-url", broker.url).returncode == 0
    assert perpetua("backup", file, "--nats-url", broker.url).returncode == 0
    piped = subprocess.run(
        [sys.executable, "-m", "libs.cli", "backup", "-", "--nats-url", broker.url],
        capture_output=True, timeout=100, check=True,
    )  # fmt: skip
    assert b"saved" in piped.stderr
    refused = perpetua("restore", file, "--nats-url", broker.url)
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    replaced = perpetua("restore", file, "--nats-url", broker.url, "--replace")
    assert replaced.returncode == 0, replaced.stderr
    subprocess.run(
        [sys.executable, "-m", "libs.cli", "restore", "-", "--replace", "--nats-url", broker.url],
        input=piped.stdout, capture_output=True, timeout=100, check=True,
    )  # fmt: skip


def test_a_file_that_is_no_whole_backup_changes_nothing(broker: Broker, tmp_path: Path) -> None:
    assert perpetua("provision", "--nats-url", broker.url).returncode == 0
    partial, nonsense = tmp_path / "partial.tar", tmp_path / "nonsense.tar"
    with tarfile.open(partial, "w"):
        pass
    nonsense.write_text("nonsense")
    for file, words in ((partial, "no whole backup"), (nonsense, "cannot be read as a backup")):
        done = perpetua("restore", file, "--nats-url", broker.url, "--replace")
        assert done.returncode == 1
        assert words in done.stderr
    missing = perpetua("restore", tmp_path / "missing.tar", "--nats-url", broker.url)
    assert "cannot be read" in missing.stderr


MUTE = """
authorization { users: [
  { user: anybody, password: x, permissions: { publish: { deny: "$JS.API.DIRECT.GET.KV_leases" } } }
] }
no_auth_user: anybody
"""


def test_a_broker_that_does_not_say_who_works_has_nothing_copied_or_replaced(tmp_path: Path) -> None:
    """It may be without a leader for a moment: that is not nobody."""
    mute, file = Broker(MUTE), tmp_path / "all.tar"
    try:
        assert perpetua("provision", "--nats-url", mute.url).returncode == 0
        saved = perpetua("backup", file, "--nats-url", mute.url)
        assert (saved.returncode, file.exists()) == (1, False)
        assert "no answer on $JS.API.DIRECT.GET.KV_leases" in saved.stderr
    finally:
        mute.close()
