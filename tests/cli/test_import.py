"""`perpetua personas import` on a running swarm: everything or a clear word, and the same when run twice."""

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


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(settings={"AUTO_START": "false"}) as brought_up:
        yield brought_up


def row(persona_id: str, parent_id: str | None = None, **more: Any) -> dict[str, Any]:
    words = {"persona_id": persona_id, "name": "N", "role": "critic", "charter": "Look."}
    return words | ({"parent_id": parent_id} if parent_id is not None else {}) | more


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def imported(running: Swarm, file: str, status: int = 0) -> dict[str, Any]:
    done = running.cli("personas", "import", file, "--json")
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command(running: Swarm, *arguments: str) -> list[str]:
    named = ["personas", "import", *arguments, "--gateway", running.url]
    return [sys.executable, "-m", "libs.cli", *named]


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    return found["created"], found["existing"], len(found["refused"])


def forest(name: str, trees: int, arms: int) -> list[dict[str, Any]]:
    """Trees of a root, its children and theirs; the last come first."""
    rows = []
    for tree in range(trees):
        root = f"{name}{tree}"
        rows.append(row(root, swarm_id=name, policy={"max_branching_factor": arms}))
        for arm in range(arms):
            rows.append(row(f"{root}-{arm}", root))
            rows.append(row(f"{root}-{arm}-x", f"{root}-{arm}", charter="ü" * 500))
    return rows[::-1]


@pytest.mark.fact("2.3")
def test_a_forest_in_any_order_is_there_once_however_often_it_is_imported(
    running: Swarm, tmp_path: Path
) -> None:
    rows = forest("wood", 60, 10)
    file = write(tmp_path / "wood.jsonl", *rows)
    assert counts(imported(running, file)) == (len(rows), 0, 0)
    assert counts(imported(running, file)) == (0, len(rows), 0)
    page = running.get("/v1/swarm/personas?swarm_id=wood&limit=1")
    assert page["total"] == len(rows) == 1260
    deepest = running.get("/v1/swarm/personas/wood0-0-x")["identity"]
    assert (deepest["depth"], deepest["swarm_id"], deepest["charter"]) == (2, "wood", "ü" * 500)
    lineage = running.get("/v1/swarm/lineage")
    there = {node["persona_id"]: node["parent_id"] for node in lineage["nodes"]}
    assert {one["persona_id"]: one.get("parent_id") for one in rows}.items() <= there.items()

    def spawned() -> int:
        return sum(
            e["event_type"] == "persona_spawned" and e["persona_id"].startswith("wood")
            for e in running.events()
        )

    eventually_sync(lambda: spawned() >= len(rows), 30, "everybody announced")
    assert spawned() == len(rows)


def test_what_is_missing_is_created_and_what_is_there_stays(running: Swarm, tmp_path: Path) -> None:
    running.post("/v1/swarm/personas", row("there"))
    file = write(tmp_path / "more.jsonl", row("new", "there"), row("there"))
    assert counts(imported(running, file)) == (1, 1, 0)


def test_nothing_is_sent_where_a_row_is_wrong_and_each_wrong_line_is_named(
    running: Swarm, tmp_path: Path
) -> None:
    file = write(tmp_path / "bad.jsonl", row("good"), {"persona_id": "bad"}, row("good"))
    before = running.get("/v1/cognition/status")["persona_count"]
    done = running.cli("personas", "import", file)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "line 2: Object missing required field `name`",
        "line 3: persona_id `good` stands on line 1 already",
        "nothing was sent: 2 of 3 rows are wrong",
    ]
    assert running.get("/v1/cognition/status")["persona_count"] == before
    found = imported(running, file, status=1)
    assert [one["line"] for one in found["invalid"]] == [2, 3]


def test_a_refused_row_is_named_by_line_and_does_not_hinder_the_others(
    running: Swarm, tmp_path: Path
) -> None:
    running.post("/v1/swarm/personas", row("taken", name="Somebody else"))
    running.post("/v1/swarm/personas", row("dead"))
    running.post("/v1/swarm/personas/dead/reap")
    rows = [row("taken"), row("dead"), row("orphan", "nobody"), row("its-child", "orphan"), row("fine")]
    file = write(tmp_path / "mixed.jsonl", *rows)
    found = imported(running, file, status=1)
    assert counts(found) == (1, 0, 4)
    assert {one["line"]: one["detail"] for one in found["refused"]} == {
        1: "Persona taken is there already with another name",
        2: "Persona dead was reaped; its id is not used again",
        3: "Parent persona not found: nobody",
        4: "Parent persona not found: orphan",
    }
    done = running.cli("personas", "import", file)
    assert done.returncode == 1
    assert "line 3: Parent persona not found: nobody" in done.stderr
    assert "0 created, 1 were there already, 4 refused" in done.stdout


def test_a_file_that_is_none_is_said_in_one_line(running: Swarm, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "latin").write_bytes(b'{"persona_id": "a"}\n{"name": "\xfc"}\n')
    for name, said in (("empty", "there is no persona in"), ("latin", "line 2: not UTF-8"), ("no", "exist")):
        done = running.cli("personas", "import", str(tmp_path / name))
        assert done.returncode != 0
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 4


def test_on_a_terminal_there_is_a_bar(running: Swarm, tmp_path: Path) -> None:
    file = write(tmp_path / "bar.jsonl", *forest("bar", 40, 10))
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "libs.cli", "personas", "import", file, "--gateway", running.url]
    with subprocess.Popen(
        command, stderr=its, stdout=subprocess.PIPE, env=os.environ | {"TERM": "xterm"}
    ) as p:
        os.close(its)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        assert p.stdout is not None
        assert b"840 created" in p.stdout.read()
    os.close(ours)
    assert b"840/840" in shown


@pytest.mark.timeout(120)
def test_it_outlasts_a_registry_that_is_killed_and_nobody_is_there_twice(
    running: Swarm, tmp_path: Path
) -> None:
    rows = forest("storm", 150, 10)
    file = write(tmp_path / "storm.jsonl", *rows)
    before = running.get("/v1/cognition/status")["persona_count"]
    with subprocess.Popen(command(running, file, "--json"), stdout=subprocess.PIPE, text=True) as importing:
        pid = running.pid("registry")
        eventually_sync(lambda: running.get("/v1/cognition/status")["persona_count"] > before, 30)
        os.kill(pid, signal.SIGKILL)
        out, _ = importing.communicate(timeout=90)
    found = json.loads(out)
    assert importing.returncode == 0, found
    assert found["created"] + found["existing"] == len(rows)
    listed = "/v1/swarm/personas?swarm_id=storm&limit=1"
    eventually_sync(lambda: running.get(listed)["total"] == len(rows), 30, "everybody being there")
    assert counts(imported(running, file)) == (0, len(rows), 0)
