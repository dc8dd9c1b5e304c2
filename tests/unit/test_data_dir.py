"""The folder of an `up`: who has it, and what is known of one that is gone."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from libs.supervisor.data_dir import DataDir, RunRecord
from libs.supervisor.errors import UpError

RECORD = RunRecord(pid=1, nats_url="nats://127.0.0.1:1", gateway_url="http://127.0.0.1:1", children=[])


def test_what_an_up_has_said_counts_while_it_has_the_folder(tmp_path: Path) -> None:
    folder = DataDir(tmp_path)
    assert folder.read() is None
    with folder.claimed():
        assert folder.read() is None
        folder.write(RECORD)
        assert folder.read() == RECORD
        with pytest.raises(UpError, match=r"another `perpetua up` \(pid 1\)"), folder.claimed():
            pass
        assert folder.read() == RECORD
    assert folder.read() is None


def test_nobody_is_sent_to_an_up_that_was_killed(tmp_path: Path) -> None:
    """It has left its file behind, whose addresses may be another's by now."""
    folder = DataDir(tmp_path)
    folder.write(RECORD)
    assert folder.read() is None, "there never was a lock"
    with folder.claimed():
        assert folder.read() is None, "the next one has said nothing yet"
        folder.write(RECORD)
        left = (tmp_path / "up.json").read_bytes()
    (tmp_path / "up.json").write_bytes(left)
    assert folder.read() is None


def test_who_looks_does_not_keep_an_up_from_starting(tmp_path: Path) -> None:
    folder = DataDir(tmp_path)
    with folder.claimed():
        pass
    folder.write(RECORD)
    ending = threading.Event()

    def look() -> None:
        while not ending.is_set():
            folder.read()

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(20):
            with folder.claimed():
                pass
            folder.write(RECORD)
            time.sleep(0.002)
    finally:
        ending.set()
        for thread in looking:
            thread.join()
