"""Which broker a command asks: the one that is named, else that of the `up`, else PERPETUA_NATS_URL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.cli.broker import broker_of
from libs.supervisor.data_dir import DataDir, RunRecord
from tests.support.broker import Broker

COMMANDS = (
    ["ps"],
    ["stats"],
    ["provision"],
    ["deadletters", "list"],
    ["replay", "ann", "1"],
    ["backup", "all.tar"],
)


def perpetua(folder: Path, *arguments: str, nats_url: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libs.cli", *arguments, "--data-dir", str(folder / "data")]
    env = {name: value for name, value in os.environ.items() if name != "PERPETUA_NATS_URL"}
    env |= {"PERPETUA_NATS_URL": nats_url} if nats_url is not None else {}
    env |= {"PYTHONPATH": str(Path.cwd())}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, env=env, check=False
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("nats_url", [None, ""], ids=["absent", "empty"])
def test_without_any_broker_each_command_says_how_to_name_one(
    command: list[str], nats_url: str | None, tmp_path: Path
) -> None:
    done = perpetua(tmp_path, *command, nats_url=nats_url)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in ("--data-dir", "--nats-url", "PERPETUA_NATS_URL"))


def test_each_command_asks_the_broker_of_the_environment(broker: Broker, tmp_path: Path) -> None:
    """As in a container, where no `up` runs; of a cluster's addresses one that answers is enough."""
    said = {}
    for command in (["provision"], *COMMANDS[:2], *COMMANDS[3:]):
        done = perpetua(tmp_path, *command, nats_url=f"nats://127.0.0.1:1,{broker.url}")
        said[command[0]] = (done.returncode, done.stdout + done.stderr)
    assert said["provision"][0] == 0 and "EVENTS" in said["provision"][1]
    assert said["ps"][0] == 0 and "nothing lives" in said["ps"][1]
    assert said["stats"][0] == 1 and "nobody says anything" in said["stats"][1]
    assert said["deadletters"][0] == 0 and "no dead letters" in said["deadletters"][1]
    assert said["replay"][0] == 1 and "PERPETUA_CAPTURE" in said["replay"][1]
    assert said["backup"][0] == 0 and (tmp_path / "all.tar").is_file()


def test_the_named_broker_goes_before_the_up_s_and_that_before_the_environment_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPETUA_NATS_URL", "nats://environment:1")
    folder = DataDir(tmp_path)
    assert broker_of(folder, None).url == "nats://environment:1"
    run = RunRecord(pid=1, gateway_url="http://127.0.0.1:1", nats_url="nats://up:1", children=[])
    with folder.claimed():
        folder.write(run)
        assert broker_of(folder, None).url == "nats://up:1"
        assert broker_of(folder, "nats://named:1").url == "nats://named:1"
    assert broker_of(folder, None).url == "nats://environment:1", "that of an up that has ended is nobody's"
