"""The brokers of a storm: one, or three that replicate; their store may lie on a small disk of its own."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from libs.supervisor.broker import find_server, is_free
from tests.support.eventually import eventually
from tests.support.ports import free_port

HOST = "127.0.0.1"
DISK_MIB = 1536
_GRACE_S = 30
_PR_SET_PDEATHSIG = 1


class Node:
    """One nats-server."""

    def __init__(self, name: str, folder: Path, port: int, cluster: str, *, sync_always: bool) -> None:
        self.name = name
        self.port = port
        self.stopped = False
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "nats.conf"
        self._config.write_text(
            f"host: {HOST}\nport: {port}\nserver_name: {name}\nmax_payload: 8MB\n"
            "feature_flags { js_ack_fc_v2: false }\n"
            f"log_file: {json.dumps(str(folder / 'nats.log'))}\n"
            f"jetstream {{ store_dir: {json.dumps(str(folder / 'store'))}"
            f"{', sync_interval: always' * sync_always} }}\n{cluster}"
        )

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def lives(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> Path:
        return self._folder / "nats.log"

    async def start(self) -> None:
        self._spawn()
        await eventually(lambda: not is_free(HOST, self.port), 60, f"the port of {self.name}")

    def _spawn(self) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [find_server(), "-c", str(self._config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Have it end by this signal, and by SIGKILL where it takes longer than a supervisor would wait."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.send_signal(number)
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_GRACE_S)
            self._process, self.stopped = None, False

    def pause(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.stopped = True

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.stopped = False


class Brokers:
    """All nodes, and the disk they share where one can be mounted."""

    def __init__(self, folder: Path, count: int, *, disk: bool, sync_always: bool) -> None:
        self._disk = folder / "disk"
        self._disk.mkdir(parents=True)
        self.small = disk and mounted(self._disk, DISK_MIB)
        routes = [free_port(HOST) for _ in range(count)]
        self.nodes = [
            Node(
                f"nats-{n}",
                self._disk / f"nats-{n}",
                free_port(HOST),
                _cluster(routes, n - 1) if count > 1 else "",
                sync_always=sync_always,
            )
            for n in range(1, count + 1)
        ]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))

    def fill(self) -> None:
        """Take what is left of the disk."""
        with (self._disk / "ballast").open("ab") as ballast:
            block = bytes(1 << 20)
            try:
                while True:
                    os.write(ballast.fileno(), block)
            except OSError:
                return

    def free(self) -> None:
        (self._disk / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        """End all; what they stored goes with them, so none is waited for to put it in order."""
        for node in self.nodes:
            node.kill()
        if self.small:
            unmounted(self._disk)
        shutil.rmtree(self._disk, ignore_errors=True)


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def mounted(folder: Path, mib: int) -> bool:
    """Whether a small disk could be mounted there: that takes root, and a kernel that lets it."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def no_small_disk() -> str | None:
    """Return why no small disk can be mounted here; None where it can."""
    folder = Path(tempfile.mkdtemp(prefix="perpetua-disk-"))
    can = mounted(folder, 1)
    if can:
        unmounted(folder)
    else:
        folder.rmdir()
    return None if can else "mounting one takes root, and a kernel that lets it"


def unmounted(folder: Path) -> None:
    """Give a small disk up."""
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _cluster(ports: list[int], own: int) -> str:
    routes = ", ".join(f'"nats://{HOST}:{port}"' for n, port in enumerate(ports) if n != own)
    return f"cluster {{ name: storm, listen: {HOST}:{ports[own]}, no_advertise: true, routes: [{routes}] }}\n"
