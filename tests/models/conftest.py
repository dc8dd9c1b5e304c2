"""Small models, made once, and a command line that pulls from a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.hub import Hub
from tests.support.repositories import write

collect_ignore = [] if find_spec("torch") else ["test_official.py"]
"""CTranslate2's own converter needs torch, which nothing here installs."""


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in two files whose weights are large enough to be cut: 2.5 MB in bfloat16."""
    folder = tmp_path_factory.mktemp("repositories") / "qwen2"
    return write(folder, "qwen2", dtype="bfloat16", shards=2, vocab_size=4000, hidden_size=256)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "libs.cli", "model", *arguments]


def environment(hub: Hub | None, **more: str) -> dict[str, str]:
    """The environment of a user whose hub is the stand-in and who is not logged in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | ({"HF_ENDPOINT": hub.url} if hub is not None else {}) | {"HF_HOME": "/nonexistent"} | more


def cli(*arguments: str, hub: Hub | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `perpetua model …` as a user does."""
    return subprocess.run(
        command(*arguments),
        env=environment(hub, **env),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in lines[0]
    return lines[0]
