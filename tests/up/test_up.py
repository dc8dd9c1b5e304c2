"""`perpetua up`: one command, supervised processes, clear words when something is in the way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import nats
import psutil
import pytest

from libs.contracts.limits import SHARDS
from libs.contracts.presence import BootSummary
from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.swarm import HOST, Swarm, swarm

TRIES = 3
SERVICES = ["registry", "scheduler", "thinker", "compressor", "gateway", "nats"]


def count(running: Swarm) -> int:
    return int(running.get("/v1/swarm/personas/root-thinker")["thought_count"])


def family(running: Swarm) -> list[psutil.Process]:
    assert running.process is not None
    return psutil.Process(running.process.pid).children(recursive=True)


def test_up_says_where_everything_is_and_what_thinks_and_why() -> None:
    with swarm() as running:
        assert running.until_output(running.url).startswith("gateway")
        assert running.until_output(running.nats_url).startswith("broker")
        assert "nothing answers at http://127.0.0.1:11434/v1" in running.until_output("thinks")
        assert "perpetua up --model FOLDER" in running.until_output("--model")
        assert "root-thinker" in running.until_output("#1 observe (fallback)")


@pytest.mark.fact("H3")
@pytest.mark.fact("H9")
def test_ps_lists_the_living_with_what_they_last_did() -> None:
    with swarm(settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: count(running) > 3)

        def everybody() -> list[dict[str, Any]] | None:
            found = running.ps()
            return found if all(row["ready"] for row in found) else None

        rows = eventually_sync(everybody, 40, "everybody ready") or []
        assert [row["service"] for row in rows] == SERVICES
        for row in rows:
            assert psutil.pid_exists(row["pid"])
            assert {"service", "instance", "pid", "ready", "since", "restarts", "last_activity"} <= set(row)
        said = {row["service"]: row for row in rows if row["service"] != "nats"}
        told = {service: msgspec.convert(row["summary"], BootSummary) for service, row in said.items()}
        assert {service: (one.hosted, one.attempted) for service, one in told.items()} == {
            service: (SHARDS, SHARDS) if service == "scheduler" else (1, 1) for service in said
        }
        for service, row in said.items():
            shown = fetch(f"http://{HOST}:{row['metrics_port']}/readyz").json["boot"]
            assert msgspec.convert(shown, BootSummary) == told[service]
        eventually_sync(
            lambda: "root-thinker" in (running.ps()[2]["last_activity"] or ""), 40, "the thinker's act"
        )
        running.get("/v1/swarm/lineage")

        def acts() -> bool:
            did = {row["service"]: row["last_activity"] for row in running.ps() if row["service"] != "nats"}
            return did["gateway"] == "answered GET /v1/swarm/lineage" and all(did.values())

        eventually_sync(acts, 40, "an act of each")

        def shown_as_table() -> bool:
            table = running.cli("ps").stdout
            assert all(service in table for service in SERVICES)
            return bool(re.search(r"published the journal up to \d+,\s+\d+ s ago", " ".join(table.split())))

        eventually_sync(shown_as_table, what="what each did, as a table")


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_process_is_started_again_and_thinking_goes_on(service: str) -> None:
    with swarm(settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: count(running) > 1)
        pid = running.pid(service)
        os.kill(pid, signal.SIGKILL)

        def is_back() -> bool:
            row = next((r for r in running.ps() if r["service"] == service), None)
            return row is not None and row["pid"] != pid and row["ready"] and row["restarts"] == 1

        eventually_sync(is_back, 40, f"{service} again")
        before = eventually_sync(lambda: count(running), 40)
        eventually_sync(lambda: count(running) > before, 40)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_drains_everything_and_leaves_no_process_behind(number: signal.Signals) -> None:
    with swarm(settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: count(running) > 1)
        children = family(running)
        assert len(children) >= 6
        assert running.process is not None
        running.process.send_signal(number)
        running.process.send_signal(number)  # asked twice is the same as once
        assert running.stop(number) == 0
        assert not [child for child in children if child.is_running()]
        assert not any("did not end" in line for line in running.output)
        assert f"stopped; what was thought is kept in {running.data}" in running.output


def test_two_ups_in_one_folder_get_a_clear_word_and_the_first_goes_on() -> None:
    with swarm() as running:
        second = subprocess.run(
            [sys.executable, "-m", "libs.cli", "up", "--data-dir", str(running.data)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert len(second.stderr.strip().splitlines()) == 1
        assert str(running.data) in second.stderr
        assert "--data-dir" in second.stderr
        eventually_sync(lambda: running.get("/v1/cognition/status")["running"])


@pytest.mark.parametrize("option", ["--gateway-port", "--nats-port"])
def test_a_taken_port_gets_a_clear_word(option: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = "--nats-port" if option == "--gateway-port" else "--gateway-port"
        done = subprocess.run(
            [sys.executable, "-m", "libs.cli", "up", "--data-dir", str(tmp_path), option, port, other, "0"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert port in done.stderr
    assert option in done.stderr


@pytest.mark.parametrize("where", ["below a file", "read-only"])
def test_a_data_folder_that_cannot_be_written_gets_a_clear_word(where: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    folder = (
        blocked / "data" if where == "below a file" else Path("/proc/perpetua")
    )  # root may write the rest
    done = subprocess.run(
        [sys.executable, "-m", "libs.cli", "up", "--data-dir", str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "--data-dir" in done.stderr


def test_up_against_a_broker_of_ones_own(tmp_path: Path) -> None:
    from tests.support.broker import Broker

    broker = Broker()
    try:
        with swarm("--nats-url", broker.url) as running:
            eventually_sync(lambda: count(running) >= 1)
            assert "nats" not in {row["service"] for row in running.ps()}

            def heard_at(url: str) -> bool:
                listed = running.cli("ps", "--json", "--nats-url", url)
                return {row["service"] for row in json.loads(listed.stdout)} == set(SERVICES) - {"nats"}

            eventually_sync(lambda: heard_at(broker.url), what="everybody")
            several = f"{broker.url},nats://127.0.0.1:1"
            eventually_sync(lambda: heard_at(several), what="everybody: of a cluster one may be away")
    finally:
        broker.close()


@pytest.mark.fact("H5")
def test_an_up_that_fails_half_way_ends_what_it_started_and_says_how_much(tmp_path: Path) -> None:
    """The broker has a stream that was made by hand and cannot be changed; it is still there afterwards."""
    from tests.support.broker import Broker

    async def spoil() -> None:
        client = await nats.connect(broker.url)
        await client.jetstream().add_stream(name="THINK", subjects=["by.hand"], storage="memory")
        await client.close()

    async def left() -> list[str]:
        client = await nats.connect(broker.url)
        found = [stream.config.name or "" for stream in await client.jetstream().streams_info()]
        await client.close()
        return found

    broker = Broker()
    try:
        asyncio.run(spoil())
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        done = subprocess.run(
            [
                sys.executable, "-m", "libs.cli", "up", "--data-dir", str(tmp_path),
                "--nats-url", broker.url, "--gateway-port", "0",
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        said = done.stderr.strip().splitlines()
        assert len(said) == 1, done.stderr
        assert re.search(r"stream THINK: .* Of \d+ streams made before that \d+ are removed again", said[0])
        assert "The 5 processes that this `up` had started are ended" in said[0]
        assert asyncio.run(left()) == ["THINK"]
        assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
        assert not (tmp_path / "up.json").exists()
    finally:
        broker.close()
