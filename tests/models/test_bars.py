"""On a terminal a pull shows bars: how much of each file is there, and how far the check is."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from pathlib import Path

from libs.models.needs import size
from tests.models.conftest import command, environment
from tests.models.test_pull import DEFAULT, FIRST, SECOND
from tests.support.eventually import eventually_sync
from tests.support.hub import Repository, hub

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of 120 columns, and what was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return _ESCAPES.sub("", self._written.decode(errors="replace"))

    def end(self) -> None:
        os.close(self.slave)
        self._reader.join(10)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 4096)
            except OSError:  # nobody has the other end any more
                return
            self._written += piece


def test_a_pull_on_a_terminal_shows_how_far_each_file_and_the_check_are(qwen2: Path, tmp_path: Path) -> None:
    repository = Repository(qwen2, hold_after=300_000)
    terminal = Terminal()
    with hub(**{DEFAULT: repository}) as running:
        process = subprocess.Popen(
            command("pull", "--data-dir", str(tmp_path)),
            env=environment(running, COLUMNS="120", TERM="xterm"),
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
        )
        try:
            held = f"{FIRST} ━.* [23][0-9][0-9] kB of {size((qwen2 / FIRST).stat().st_size)}"
            eventually_sync(lambda: re.search(held, terminal.text), 60, "the bar half way")
            repository.hold_after = None
            running.released.set()
            assert process.wait(60) == 0
        finally:
            process.kill()
    terminal.end()
    for name in (FIRST, SECOND):
        whole = size((qwen2 / name).stat().st_size)
        assert re.search(f"{name} ━+ {whole} of {whole}", terminal.text), terminal.text[-3000:]
    assert re.search("layers +━+ 3 of 3", terminal.text)
    assert "Traceback" not in terminal.text
    lines = [line for line in terminal.text.replace("\r", "\n").split("\n") if line.startswith("fetched")]
    assert lines == [], "bars take the place of lines"
