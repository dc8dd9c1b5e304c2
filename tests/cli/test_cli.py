"""The command line on a running swarm: each command, its JSON, its errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner

from libs.cli.__main__ import app
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

MOVES = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]"


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(settings={"LOOP_INTERVAL_MS": "100"}) as brought_up:
        yield brought_up


def said(running: Swarm, *arguments: str) -> str:
    done = running.cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answered(running: Swarm, *arguments: str) -> Any:
    return json.loads(said(running, *arguments, "--json"))


def new(name: str, *more: str) -> list[str]:
    return ["--name", name, "--role", "critic", "--charter", "Find what is wrong", *more]


def test_personas_are_created_spawned_listed_shown_drawn_and_reaped(running: Swarm) -> None:
    created = answered(running, "personas", "create", *new("Ann"), "--id", "ann", "--swarm", "s1")
    assert created["identity"]["swarm_id"] == "s1"
    child = answered(running, "personas", "spawn", "ann", *new("Bob"), "--id", "b/ob")
    assert child["identity"]["parent_id"] == "ann"
    listed = answered(running, "personas", "list", "--swarm", "s1")
    assert [state["identity"]["id"] for state in listed] == ["ann", "b/ob"]
    assert "critic" in said(running, "personas", "list", "--status", "active")
    assert "Find what is wrong" in said(running, "personas", "show", "b/ob")
    assert "ann\n└─ b/ob" in said(running, "lineage")
    assert answered(running, "lineage")["total_edges"] == 1
    assert "reaped 2: ann, b/ob" in said(running, "personas", "reap", "ann", "--cascade")
    assert "b/ob (reaped)" in said(running, "lineage")
    assert answered(running, "personas", "reap", "ann") == {"reaped_ids": [], "count": 0}


def test_status_start_and_stop(running: Swarm) -> None:
    assert answered(running, "status")["running"] is True
    assert answered(running, "status")["circuits"] == [], "no thinker asks an endpoint"
    assert "endpoint" not in said(running, "status")
    assert answered(running, "stop", "--reason", "enough")["running"] is False
    shown = said(running, "status")
    assert re.search(r"running\s+no", shown)
    assert re.search(r"default_policy: share_memory\s+no$", shown, re.MULTILINE), "no row is padded"
    said(running, "personas", "create", *new("Zoe", "--id", "zoe"))
    waiting = running.cli("send", "zoe", "Awake?", "--wait", "--within", "1")
    assert "The loop does not run: `perpetua start` starts it" in waiting.stderr
    assert answered(running, "start", "--interval", "100")["running"] is True


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--persona", "nobody"], "Persona not found: nobody; events are shown once there are any"),
        (["--swarm", "no swarm"], "No persona of swarm no swarm is known; events are shown once"),
    ],
)
def test_watch_says_of_whom_nobody_knows_and_waits(running: Swarm, option: list[str], words: str) -> None:
    command = [sys.executable, "-m", "libs.cli", "watch", *option, "--data-dir", str(running.data)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        assert words in watching.stderr.readline()
        assert watching.poll() is None
        watching.send_signal(signal.SIGINT)


def test_in_the_list_of_commands_each_is_told_in_a_whole_sentence() -> None:
    for group in (app, *(one for one in app.commands.values() if isinstance(one, click.Group))):
        listed = CliRunner().invoke(group, ["--help"], terminal_width=80).output.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


def test_snapshots_are_shown_newest_last(running: Swarm) -> None:
    found = eventually_sync(lambda: answered(running, "snapshots", "--limit", "2"), 30)
    assert len(found) <= 2
    assert found[-1]["snapshot"]["metadata"]["phase"] == "compress"
    assert "phase=compress" in said(running, "snapshots").replace("\n", "")


def test_watch_follows_filters_and_ends_with_ctrl_c(running: Swarm) -> None:
    command = [sys.executable, "-m", "libs.cli", "watch", "--json", "--after", "0"]
    command += ["--type", "hypothesis_raised"]
    command += ["--persona", "root-thinker", "--data-dir", str(running.data)]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    with watching.stdout as lines:
        first, second = json.loads(lines.readline()), json.loads(lines.readline())
        watching.send_signal(2)
        assert watching.wait(30) == 130
    assert first["event_type"] == second["event_type"] == "hypothesis_raised"
    assert second["payload"]["thought_count"] == first["payload"]["thought_count"] + 4
    assert second["sequence"] > first["sequence"]


def test_watch_ends_without_a_word_when_nobody_reads_any_more(running: Swarm) -> None:
    with watching(running, "--after", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


def watching(swarm: Swarm, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "libs.cli", "watch", "--data-dir", str(swarm.data), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_watch_goes_on_after_a_crash_of_the_gateway_without_loss_or_repeat(running: Swarm) -> None:
    with watching(running, "--json", "--after", "0") as process:
        assert process.stdout is not None
        gateway = running.pid("gateway")
        stored = running.get("/v1/cognition/events?limit=1")["last_sequence"]
        os.kill(gateway, signal.SIGKILL)
        seen = [json.loads(process.stdout.readline())["sequence"]]
        while seen[-1] < stored + 40:
            seen.append(json.loads(process.stdout.readline())["sequence"])
        process.kill()
    assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_watch_ends_quietly_when_its_reader_does(running: Swarm) -> None:
    with watching(running, "--after", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1


def test_text_of_personas_cannot_move_the_terminals_cursor(running: Swarm) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil"
    answered(running, "personas", "create", *new(evil), "--id", "evil")
    commands = [["personas", "list"], ["personas", "show", "evil"], ["lineage"], ["ps"]]
    commands += [[*command, "--json"] for command in commands[:3]]
    for command in commands:
        assert not re.search(MOVES, said(running, *command)), command
    assert answered(running, "personas", "show", "evil")["identity"]["name"] == evil
    refused = running.cli("personas", "show", evil)
    assert refused.returncode == 1
    assert not re.search(MOVES, refused.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["personas", "show", "nobody"], "Persona not found: nobody"),
        (["personas", "spawn", "nobody", *new("x")], "Parent persona not found: nobody"),
        (["start", "--interval", "99999999999"], "loop_interval_ms"),
        (["status", "--gateway", "http://127.0.0.1:1"], "Start one with `perpetua up`"),
        (["status", "--gateway", "notaurl"], "no URL of a gateway: 'notaurl'"),
        (["status", "--gateway", "http://[::1"], "no URL of a gateway"),
        (["send", "x", "y", "--gateway", "http://a b"], "no URL of a gateway"),
        (["send", "\udcff", "y"], "ersona"),
        (["ps", "--data-dir", "nowhere"], "--data-dir"),
        (["up", "--model", "nowhere"], "is not a CTranslate2 model folder"),
    ],
)
def test_errors_are_one_line_with_the_cure(running: Swarm, arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "libs.cli", *arguments]
    if not {"--gateway", "--data-dir", "up"} & set(arguments):
        command += ["--gateway", running.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--priority", "--within"])
def test_no_number_is_no_number(option: str) -> None:
    command = [sys.executable, "-m", "libs.cli", "send", "x", "y", option, "nan"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is no number" in done.stderr


def test_what_is_no_gateway_is_named(running: Swarm) -> None:
    """A broker's port, and a web server that answers with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        said = {
            url: subprocess.run(
                [sys.executable, "-m", "libs.cli", "status", "--gateway", url],
                capture_output=True, text=True, timeout=60, check=False,
            ).stderr
            for url in (
                running.nats_url.replace("nats://", "http://"),
                f"http://127.0.0.1:{server.server_address[1]}",
            )
        }  # fmt: skip
        server.shutdown()
    assert [len(text.strip().splitlines()) for text in said.values()] == [1, 1]
    assert ["no gateway" in text for text in said.values()] == [True, True]


def test_a_token_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"a\xff b\n")
    command = [sys.executable, "-m", "libs.cli", "status", "--token-file", str(tmp_path / "token")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "holds no token" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_provision_is_safe_to_repeat(running: Swarm) -> None:
    """With the key of the data folder, also where the broker is named; without it the broker refuses."""
    assert answered(running, "provision") == {"changed": []}
    assert answered(running, "provision", "--nats-url", running.nats_url) == {"changed": []}
    command = [sys.executable, "-m", "libs.cli", "provision", "--nats-url", running.nats_url]
    done = subprocess.run(
        [*command, "--data-dir", "elsewhere"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "does not allow it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
