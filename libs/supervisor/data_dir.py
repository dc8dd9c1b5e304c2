"""The folder of one `perpetua up`: who uses it, what runs in it, where its logs are."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from libs.supervisor.errors import in_use, not_writable

_STARTED_TOLERANCE_S = 5.0
_TRIES = 15
"""Others hold the lock for a moment, too, when they look whether an `up` does."""

_TRY_AGAIN_S = 0.02


class ChildRecord(Struct, frozen=True, kw_only=True):
    """One supervised process as the run file names it."""

    service: str
    instance: str
    pid: int | None
    since: datetime | None
    restarts: int
    state: str
    """`running`, `waiting` (for its restart), `stopped` or `misconfigured`."""

    last_words: str | None = None
    """Why it is misconfigured, in its own words."""

    def lives(self) -> bool:
        """Whether this process, and no later one with its number, is there."""
        if self.pid is None or self.since is None:
            return False
        try:
            process = psutil.Process(self.pid)
            zombie = process.status() == psutil.STATUS_ZOMBIE
            apart = abs(process.create_time() - self.since.timestamp())
        except psutil.Error:
            return False
        return not zombie and apart < _STARTED_TOLERANCE_S


class RunRecord(Struct, frozen=True, kw_only=True):
    """What runs in a data folder; written anew with every change."""

    pid: int
    nats_url: str
    gateway_url: str
    children: list[ChildRecord]

    def embeds(self, nats_url: str) -> bool:
        """Whether this is the address of a broker that belongs to the run."""
        return nats_url == self.nats_url and any(child.service == "nats" for child in self.children)


_decode = msgspec.json.Decoder(RunRecord).decode


class DataDir:
    """Paths of a data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.streams = path / "nats"
        self.models = path / "models"
        self.keys = path / "keys"
        self._run_file = path / "up.json"
        self._lock_file = path / "up.lock"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only `up` in the folder while the context is open. Raises `UpError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # thoughts and keys are its owner's
            for folder in (self.logs, self.streams, self.models):
                folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            (self.path / ".writable").write_text("")
            (self.path / ".writable").unlink()
        except OSError as error:
            raise not_writable(self.path, error) from error
        try:
            self._lock(lock)
            try:
                self._run_file.unlink(missing_ok=True)  # of one that was killed
                yield
            finally:
                self._run_file.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        for _ in range(_TRIES):
            with suppress(OSError):
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(_TRY_AGAIN_S)
        holder = self.read()
        raise in_use(self.path, f"(pid {holder.pid}) " if holder else "")

    def _is_locked(self) -> bool:
        """Whether an `up` has the folder; the kernel takes it away from one that is gone, whatever by."""
        try:
            with self._lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def write(self, record: RunRecord) -> None:
        """Say what runs, in one step."""
        temporary = self._run_file.with_suffix(".new")
        with suppress(OSError):  # a full disk must not end the swarm
            temporary.write_bytes(msgspec.json.encode(record))
            temporary.replace(self._run_file)

    def read(self) -> RunRecord | None:
        """Return what runs in the folder; None also where the `up` that has said so is gone."""
        try:
            record = _decode(self._run_file.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return record if self._is_locked() else None
