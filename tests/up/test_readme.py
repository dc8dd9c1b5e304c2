"""The README's walk, as its reader types it: every command in its order, against one `perpetua up`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.life.conftest import reply
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
FROM, UNTIL = "## Talk to it", "## Subscribe to thoughts"

FOLLOWS = ("curl -sN", "tail -F", ".venv/bin/perpetua watch")
"""What goes on until Ctrl-C; by then it must have printed something, or sent the lines of the log."""

LOG = ("ERROR: red", "ERROR: redder")

FILES = {"apply swarm.yaml": "yaml", "personas import swarm.jsonl": "json"}
"""Whose file is the block of this kind above it."""

REFUSALS_FAIL = 'curl() { command curl --fail-with-body "$@"; }; '


def walk() -> Iterator[tuple[str, list[str]]]:
    """Each block of the sections: its kind, and its commands or its whole text."""
    text = (ROOT / "README.md").read_text().partition(FROM)[2].partition(UNTIL)[0]
    for kind, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        yield kind, commands(body) if kind == "sh" else [body]


def commands(block: str) -> list[str]:
    """The commands of a block, each with the comments on it."""
    found: list[str] = []
    for line in block.splitlines():
        goes_on = line.startswith(("  ", "# ")) and found
        if goes_on:
            found[-1] += f"\n{line}"
        elif line.strip():
            found.append(line)
    return found


def answer_of(command: str) -> object:
    """The answer that a comment shows whole; None where it is cut short, or there is none."""
    shown = re.findall(r"(?m)# (\{.*\})$", command)
    return json.loads(shown[0]) if shown and "…" not in shown[0] else None


class Reader:
    """Types commands in a folder; the addresses are those of the swarm of this test."""

    def __init__(self, running: Swarm, folder: Path) -> None:
        self.running, self.folder, self.before = running, folder, ""
        (folder / "app.log").write_text("".join(f"{line}\n" for line in LOG))

    def types(self, command: str) -> None:
        if command.startswith("B="):
            self.before = command.replace("http://127.0.0.1:4096", self.running.url) + "\n"
        elif command.partition(" #")[0].strip().endswith("just up"):
            self._ups_again(command)
        elif command.startswith(FOLLOWS):
            self._follows(command)
        else:
            self._runs(command)

    def _ups_again(self, command: str) -> None:
        name, _, value = command.split()[0].partition("=")
        assert self.running.stop() == 0
        self.running.settings[name] = value
        self.running.output.clear()
        self.running.start()

    def _runs(self, command: str) -> None:
        """Run it with a terminal, where whatever is asked is answered by yes."""
        terminal, its_end = pty.openpty()
        try:
            os.write(terminal, b"y\n")
            done = subprocess.run(
                self._shell(command), env=self._env, cwd=self.folder, stdin=its_end, capture_output=True,
                text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(terminal)
            os.close(its_end)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        if (shown := answer_of(command)) is not None:
            assert json.loads(done.stdout) == shown, command

    def _follows(self, command: str) -> None:
        process = subprocess.Popen(
            self._shell(command), env=self._env, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            os.set_blocking(process.stdout.fileno(), False)
            came = self._log_came if command.startswith("tail") else process.stdout.read
            assert eventually_sync(came, 60, command)
            assert process.poll() is None, (command, "ended by itself")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()

    def _log_came(self) -> bool:
        events = self.running.events()
        received = json.dumps([event for event in events if event["event_type"] == "inbox_received"])
        return all(line in received for line in LOG)

    def _shell(self, command: str) -> list[str]:
        return ["bash", "-eu", "-c", self.before + REFUSALS_FAIL + command.replace(".venv/bin/", f"{BIN}/")]

    @property
    def _env(self) -> dict[str, str]:
        return os.environ | {"PERPETUA_DATA_DIR": str(self.running.data)}


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_s_walk_works_in_its_order(tmp_path: Path) -> None:
    with endpoint(reply) as model:
        roots, typed = walked(Swarm(settings={"THINKER_BASE_URL": model.base_url}), tmp_path)
    assert len(typed) > 30, typed
    assert {"root-thinker", "alpha", "eve", "ann", "cleo"} <= set(roots)


def walked(running: Swarm, folder: Path) -> tuple[list[str], list[str]]:
    """Walk; return the roots that are there in the end, and what was typed."""
    reader, files, typed = Reader(running, folder), dict.fromkeys(FILES.values(), ""), []
    try:
        running.start()
        eventually_sync(lambda: running.get("/v1/swarm/personas/root-thinker")["thought_count"] > 4, 40)
        for kind, parts in walk():
            if kind != "sh":
                files[kind] = parts[0]
                continue
            for command in parts:
                for line, kind_of_file in FILES.items():
                    if line in command:
                        (folder / line.split()[-1]).write_text(files[kind_of_file])
                reader.types(command)
                typed.append(command)
        return running.get("/v1/swarm/lineage")["roots"], typed
    finally:
        running.close()
