"""A real nats-server on a free port with a store of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from libs.supervisor.broker import find_server, is_free, write_config
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port

HOST = "127.0.0.1"


class Broker:
    """Starts at once; can be killed, paused and started again on the same port and store."""

    def __init__(self, authorization: str = "", scheme: str = "nats", *, sync_always: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perpetua-broker-"))
        self.port = free_port(HOST)
        self.url = f"{scheme}://{HOST}:{self.port}"
        self.log = self.folder / "nats.log"
        self._config = write_config(
            self.folder,
            self.folder / "store",
            self.log,
            HOST,
            self.port,
            authorization=authorization,
            sync_always=sync_always,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [find_server(), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually_sync(lambda: not is_free(HOST, self.port), what="the broker's port")

    def kill(self) -> None:
        """kill -9, as a crash."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it in its tracks; it has stopped when this returns."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._signal(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None
