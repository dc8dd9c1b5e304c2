"""`perpetua apply` on a running swarm: what a file describes is there once, however often it is applied."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
MANY = 120

FAMILY = """swarm: NAME
complete: true
personas:
  - id: NAME-a
    role: lead
    charter: Lead.
    policy: {idle_ttl_secs: 86400}
    waiting_for: [NAME-b, NAME-c]
    inbox:
      - Look first.
      - {content: And then, id: then, priority: 0.9, source: room}
    children:
      - {id: NAME-b, name: Bee, role: scout, charter: Look far.}
      - {id: NAME-c, role: scout, charter: Look near., waiting_for: [NAME-b], inbox: [Look first.]}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(settings={"AUTO_START": "false"}) as brought_up:
        yield brought_up


def written(path: Path, text: str) -> str:
    file = path / "swarm.yaml"
    file.write_text(text)
    return str(file)


def family(path: Path, name: str, *changes: tuple[str, str]) -> str:
    text = FAMILY.replace("NAME", name)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return written(path, text)


def applied(running: Swarm, file: str, *more: str, status: int = 0) -> Any:
    done = running.cli("apply", file, "--json", *(more or ("--yes",)))
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def counts(found: Any) -> tuple[int, int, int]:
    return found["applied"]["created"], found["applied"]["changed"], found["applied"]["sent"]


def persona(running: Swarm, persona_id: str) -> Any:
    return running.get(f"/v1/swarm/personas/{persona_id}")


def held(running: Swarm, persona_id: str) -> list[str]:
    return sorted(item["content"] for item in running.get(f"/v1/swarm/personas/{persona_id}/inbox")["items"])


def until_held(running: Swarm, persona_id: str, *contents: str) -> None:
    eventually_sync(lambda: held(running, persona_id) == sorted(contents), 20, f"the inbox of {persona_id}")


@pytest.mark.fact("A15")
def test_what_the_file_says_is_there_and_the_second_run_has_nothing_to_do(
    running: Swarm, tmp_path: Path
) -> None:
    file = family(tmp_path, "one")
    assert applied(running, file, "--dry-run")["applied"] is None
    assert running.http("GET", "/v1/swarm/personas/one-a").status == 404, "a dry run does nothing"
    assert counts(applied(running, file)) == (3, 2, 3)
    lead, bee = persona(running, "one-a"), persona(running, "one-b")
    assert (lead["waiting_for"], lead["policy"]["idle_ttl_secs"]) == (["one-b", "one-c"], 86400)
    assert (bee["identity"]["name"], bee["identity"]["parent_id"]) == ("Bee", "one-a")
    assert bee["identity"]["swarm_id"] == "one"
    until_held(running, "one-a", "Look first.", "And then")
    until_held(running, "one-c", "Look first.")
    again = applied(running, file)
    assert (again["create"], again["wait"], again["send"], again["applied"]) == ([], [], [], None)
    assert sorted(again["unchanged"]) == ["one-a", "one-b", "one-c"]
    done = running.cli("apply", file)
    assert (done.returncode, done.stdout) == (0, "swarm one: nothing to do: 3 unchanged\n")
    until_held(running, "one-a", "Look first.", "And then")


@pytest.mark.fact("2.4")
def test_bounds_are_those_of_the_swarm_whatever_this_command_s_environment_says(
    running: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = running.get("/v1/cognition/status")["default_policy"]["max_branching_factor"]
    names = [f"bound-{number}" for number in range(most + 1)]
    children = "".join(f"\n      - {{id: {name}, role: r, charter: c}}" for name in names)
    text = f"swarm: bound\npersonas:\n  - id: bound\n    role: r\n    charter: c\n    children:{children}\n"
    monkeypatch.setenv("CODETETHER_COGNITION_MAX_BRANCHING_FACTOR", "1")
    fits = written(tmp_path, text.replace(f"\n      - {{id: {names[-1]}, role: r, charter: c}}", ""))
    assert len(applied(running, fits, "--dry-run")["create"]) == most + 1
    monkeypatch.setenv("CODETETHER_COGNITION_MAX_BRANCHING_FACTOR", "1000")
    (wrong,) = applied(running, written(tmp_path, text), status=1)["invalid"]
    assert f"the max_branching_factor of its parent `bound` is {most}" in wrong["error"]
    assert running.http("GET", "/v1/swarm/personas/bound").status == 404, "nothing was changed"


@pytest.mark.fact("A15")
def test_changes_are_made_and_those_that_cannot_be_are_said(running: Swarm, tmp_path: Path) -> None:
    applied(running, family(tmp_path, "two"))
    turned = family(
        tmp_path, "two",
        ("waiting_for: [two-b, two-c]", "waiting_for: []"),
        ("waiting_for: [two-b]", "waiting_for: [two-a]"),
        ("charter: Look far.", "charter: Look farther."),
        ("    inbox:\n", "    inbox:\n      - News.\n"),
    )  # fmt: skip
    found = applied(running, turned, status=3)
    assert counts(found) == (0, 2, 1), "the circle that is on the way is gone around"
    assert found["cannot"] == [
        {
            "line": 14,
            "error": '`two-b` cannot be changed: charter is "Look far.", not "Look farther."',
        }
    ]
    assert persona(running, "two-c")["waiting_for"] == ["two-a"]
    assert persona(running, "two-b")["identity"]["charter"] == "Look far."
    done = running.cli("apply", turned)
    assert done.returncode == 3
    assert "nothing to do: 1 impossible, 2 unchanged" in done.stdout


def test_a_swap_of_who_waits_for_whom_meets_no_circle(running: Swarm, tmp_path: Path) -> None:
    text = "swarm: swap\npersonas:\n"
    rows = ["- {{id: swap-{}, role: r, charter: c, waiting_for: {}}}\n".format(*one) for one in (
        ("a", "[swap-b, swap-c]"), ("b", "[swap-c]"), ("c", "[]"), ("d", "[swap-a]")
    )]  # fmt: skip
    assert counts(applied(running, written(tmp_path, text + "".join(rows)))) == (4, 3, 0)
    rows = ["- {{id: swap-{}, role: r, charter: c, waiting_for: {}}}\n".format(*one) for one in (
        ("a", "[swap-d]"), ("b", "[swap-a]"), ("c", "[swap-a, swap-b]"), ("d", "[]")
    )]  # fmt: skip
    found = applied(running, written(tmp_path, text + "".join(rows)))
    assert (counts(found), found["applied"]["refused"]) == ((0, 4, 0), [])
    assert persona(running, "swap-c")["waiting_for"] == ["swap-a", "swap-b"]


def test_nothing_is_sent_where_anything_is_wrong(running: Swarm, tmp_path: Path) -> None:
    wrong = family(tmp_path, "three", ("role: lead", "rolle: lead"), ("[three-b]", "[nobody]"))
    done = running.cli("apply", wrong, "--yes")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "line 4: missing `role`; every one has it"
    assert "line 5: unknown field `rolle`; is `role` meant?" in done.stderr
    nowhere = family(tmp_path, "three", ("[three-b]", "[nobody]"))
    found = applied(running, nowhere, status=1)
    assert [one["line"] for one in found["invalid"]] == [14]
    assert "neither in the file nor there" in found["invalid"][0]["error"]
    assert running.get("/v1/swarm/personas?swarm_id=three")["total"] == 0


def test_it_asks_on_a_terminal_and_does_nothing_where_nobody_says_yes(running: Swarm, tmp_path: Path) -> None:
    file = family(tmp_path, "four")
    done = running.cli("apply", file)
    assert done.returncode == 1
    assert "give --yes" in done.stderr
    for said, status, total in (("n\n", 1, 0), ("y\n", 0, 3)):
        ours, its = pty.openpty()
        command = [sys.executable, "-m", "libs.cli", "apply", file, "--gateway", running.url]
        with subprocess.Popen(command, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            os.close(its)
            os.write(ours, said.encode())
            out, err = asking.communicate(timeout=60)
        os.close(ours)
        assert asking.returncode == status, err
        assert b"+ four-a (lead): Lead." in out
        assert b"Apply this?" in err
        assert running.get("/v1/swarm/personas?swarm_id=four")["total"] == total


def test_who_is_not_in_a_complete_file_is_named_and_stays(running: Swarm, tmp_path: Path) -> None:
    file = family(tmp_path, "five")
    running.post(
        "/v1/swarm/personas",
        {"persona_id": "five-x", "name": "X", "role": "r", "charter": "c", "swarm_id": "five"},
    )
    assert applied(running, file)["extra"] == ["five-x"]
    assert persona(running, "five-x")["status"] == "active"


def test_what_is_somebody_else_s_is_left_alone(running: Swarm, tmp_path: Path) -> None:
    for name, swarm_id in (("six-a", "elsewhere"), ("six-r", "six")):
        body = {"persona_id": name, "name": name, "role": "lead", "charter": "Lead.", "swarm_id": swarm_id}
        running.post("/v1/swarm/personas", body)
    running.post("/v1/swarm/personas/six-r/reap")
    more = "".join(
        f"  - {{id: six-{name}, role: r, charter: c{parent}}}\n"
        for name, parent in (("r", ""), ("d", ""), ("e", ", parent: six-a"), ("f", ""))
    )
    file = family(tmp_path, "six", ("personas:\n", f"personas:\n{more}"))
    found = applied(running, file, status=3)
    assert [one["line"] for one in found["cannot"]] == [4, 6, 8, 17, 18]
    assert counts(found) == (2, 0, 0)
    assert persona(running, "six-a")["waiting_for"] == []
    assert held(running, "six-a") == []


@pytest.mark.timeout(240)
def test_interrupted_half_way_it_goes_on_where_it_was(running: Swarm, tmp_path: Path) -> None:
    """Killed between two dependencies, ended by Ctrl-C between two seeds: each is there once."""
    for name in ("cut", "cut-again", "cut-at-last"):
        status, out, err, file = cut(running, tmp_path, name)
        if status != 0:
            break  # else it was through before it could be interrupted
    assert status == 1, err
    assert b"interrupted" in err
    assert b"run it again to go on" in out
    left = applied(running, file)
    created, changed, sent = counts(left)
    assert (created, changed, left["applied"]["refused"]) == (0, 0, [])
    assert 0 < sent < 2 * MANY
    assert counts_nothing(applied(running, file))
    for n in range(MANY):
        until_held(running, f"{name}-{n}", "one", "two")


def cut(running: Swarm, tmp_path: Path, name: str) -> tuple[int, bytes, bytes, str]:
    """Apply many personas that wait for one, interrupted twice; return how the second ended, and the file."""
    row = "- {{id: {}-{}, role: r, charter: c, inbox: [one, two], waiting_for: [{}]}}\n"
    rows = "".join(row.format(name, n, name) for n in range(MANY))
    first_row = f"- {{id: {name}, role: r, charter: c}}\n"
    file = written(tmp_path, f"swarm: {name}\npersonas:\n{first_row}{rows}")
    command = [sys.executable, "-m", "libs.cli", "apply", file, "--yes", "--gateway", running.url]

    def waits(persona_id: str) -> bool:
        found = running.http("GET", f"/v1/swarm/personas/{persona_id}")
        return found.status == 200 and found.json["waiting_for"] == [name]

    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        eventually_sync(lambda: waits(f"{name}-5"), 60, "the first dependencies")
        first.kill()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as second:
        eventually_sync(lambda: held(running, f"{name}-5") != [], 60, "the first seeds")
        second.send_signal(signal.SIGINT)
        out, err = second.communicate(timeout=30)
    return second.returncode, out, err, file


def counts_nothing(found: Any) -> bool:
    return found["applied"] is None and not (found["create"] or found["wait"] or found["send"])


@pytest.mark.parametrize("name", ["code-review", "incident-watch", "research-desk"])
def test_each_example_applies_and_again(running: Swarm, name: str) -> None:
    file = str(EXAMPLES / f"{name}.yaml")
    found = applied(running, file)
    assert found["cannot"] == found["extra"] == found["applied"]["refused"] == []
    assert found["applied"]["created"] == running.get(f"/v1/swarm/personas?swarm_id={name}")["total"]
    assert counts_nothing(applied(running, file))


def test_lines_of_a_log_reach_the_watch(running: Swarm) -> None:
    """The pipe of docs/examples/incident-watch.yaml; `tail -F` is `printf` here."""
    file = str(EXAMPLES / "incident-watch.yaml")
    assert running.cli("apply", file, "--yes").returncode == 0
    command = [sys.executable, "-m", "libs.cli", "send", "watch-errors", "-", "--source", "app.log"]
    lines = b"ERROR db: timeout\nERROR db: refused\n"
    subprocess.run([*command, "--gateway", running.url], input=lines, timeout=60, check=True)
    eventually_sync(lambda: "ERROR db: refused" in held(running, "watch-errors"), 20, "the line")
