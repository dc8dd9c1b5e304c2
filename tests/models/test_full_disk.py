"""A pull onto a disk that is full, really: a small one is mounted for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.brokers import mounted, unmounted
from tests.chaos.test_disk_full import fill
from tests.models.conftest import cli, command, environment, one_line
from tests.models.test_pull import DEFAULT, FIRST, NAME, listed, pulled
from tests.support.eventually import eventually_sync
from tests.support.hub import COMMIT, Hub, Repository, hub

pytestmark = pytest.mark.small_disk
MIB = 64
"""A pull of the model takes some 30 MB at the highest."""

SAID = (
    r"the disk is full \(No space left on device\) in \S+; the rest takes about (\d+) MB, \d+ k?B are free\. "
    r"What is downloaded is kept: make room and give the same command again"
)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="perpetua-disk-"))
    assert mounted(folder, getattr(request, "param", MIB))
    try:
        yield folder
    finally:
        unmounted(folder)


@pytest.mark.parametrize("small_disk", [8], indirect=True)
def test_too_small_a_disk_is_said_before_anything_is_fetched(qwen2: Path, small_disk: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        line = one_line(cli("pull", "--data-dir", str(small_disk), hub=running))
        assert re.search(r"about \d+ MB of disk are needed in \S+, \d MB are free\. Make room", line)
        assert running.asked_for(FIRST) == []


def test_a_disk_that_fills_up_meanwhile_is_said_with_what_is_needed_and_the_pull_goes_on(
    qwen2: Path, small_disk: Path
) -> None:
    repository = Repository(qwen2, hold_after=300_000)
    with hub(**{DEFAULT: repository}) as running:
        with pulling(running, small_disk) as process:
            part = small_disk / "models" / ".pull" / NAME / f"source-{COMMIT}" / f"{FIRST}.part"
            eventually_sync(lambda: part.is_file() and part.stat().st_size >= 200_000, 60, "the first bytes")
            fill(small_disk / "ballast")
            repository.hold_after = None
            running.released.set()
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.count("\n") == 1
        found = re.search(SAID, said)
        assert found, said
        assert 20 < int(found[1]) < 40
        assert listed(small_disk)["models"] == []
        assert [one["name"] for one in listed(small_disk)["unfinished"]] == [NAME]
        kept = part.stat().st_size
        (small_disk / "ballast").unlink()
        assert pulled(small_disk, hub=running)["name"] == NAME
        assert f"bytes={kept}-" in running.asked_for(FIRST)


STOPS = """
import os, runpy, signal
from libs.models import convert
copy = convert.copy_tokenizer

def stop(*given):
    os.kill(os.getpid(), signal.SIGSTOP)
    return copy(*given)

convert.copy_tokenizer = stop
runpy.run_module("libs.cli", run_name="__main__")
"""


def test_a_disk_that_fills_up_while_it_converts_leaves_nothing_that_is_used(
    qwen2: Path, small_disk: Path
) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        with pulling(running, small_disk, "-c", STOPS) as process:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            fill(small_disk / "ballast")
            process.send_signal(signal.SIGCONT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert re.search(SAID, said), said
        assert listed(small_disk)["models"] == []
        (small_disk / "ballast").unlink()
        asked = len(running.asked_for(FIRST))
        assert pulled(small_disk, hub=running)["name"] == NAME
        assert len(running.asked_for(FIRST)) == asked, "what was downloaded is not downloaded again"


def pulling(running: Hub, data: Path, *by: str) -> subprocess.Popen[str]:
    """Begin a pull, by a script of its own where one is given."""
    python, *plain, model, pull = command("pull")
    return subprocess.Popen(
        [python, *(by or plain), model, pull, "--data-dir", str(data)],
        env=environment(running),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
