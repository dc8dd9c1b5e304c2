"""One supervised process: started, watched, restarted with back-off, ended.

asyncio's own subprocesses take a thread, or a file, to watch each of them, and ask for it once the process is
there: where none is left, nobody has the process. Here nothing but the process and its pipe is needed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from libs.concurrency.tasks import beside
from libs.concurrency.waiting import BackOff
from libs.settings.reader import EX_CONFIG
from libs.supervisor.data_dir import ChildRecord
from libs.supervisor.errors import at_limit

GIVEN_UP = "stopped over its configuration, and is not started again: correct it, then run `up` anew"
"""What is said of a process that has ended with `EX_CONFIG`; another start would change nothing [H2]."""

_SOON_S = 1.0
"""What is started again within so many seconds goes on with what it had; what is not gives that to others."""

_FIRST_BACK_OFF_S = 0.1
_MOST_BACK_OFF_S = 2.0
_SETTLED_S = 20.0
_LINE_BYTES = 1024 * 1024
_ENDED_LOOK_S = 0.02
_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class Gone:
    """A process has ended, and is not started again soon, or at all."""

    service: str
    instance: str
    ended: datetime


class Child:
    """Keeps one process running until it is stopped, or stops over its configuration."""

    def __init__(
        self,
        service: str,
        instance: str,
        command: list[str],
        env: dict[str, str],
        log: Path,
        on_change: Callable[[], None],
        on_line: Callable[[str, str], None],
        on_gone: Callable[[Gone], None] = lambda _: None,
    ) -> None:
        self.service = service
        self.instance = instance
        self.restarts = 0
        self.exit_status: int | None = None
        self._command = command
        self._env = env
        self._log = _bounded_log(log)
        self._on_change = on_change
        self._on_line = on_line
        self._on_gone = on_gone
        self._process: subprocess.Popen[bytes] | None = None
        self._since: datetime | None = None
        self._state = "waiting"
        self._stopping = False
        self._last_words = ""
        """The last line that it has printed for people, which says why it ends where it is misconfigured."""

    def record(self) -> ChildRecord:
        """Return the child as the run file names it."""
        pid = self._process.pid if self._process is not None and self._state == "running" else None
        return ChildRecord(
            service=self.service,
            instance=self.instance,
            pid=pid,
            since=self._since,
            restarts=self.restarts,
            state=self._state,
            last_words=self._last_words if self.misconfigured else None,
        )

    @property
    def misconfigured(self) -> bool:
        """Whether the process has stopped over its configuration."""
        return self._state == "misconfigured"

    async def keep(self) -> None:
        """Run the process, again and again, until it is stopped or misconfigured."""
        with closing(self._log):
            await self._keep()

    async def _keep(self) -> None:
        back_off = BackOff(_FIRST_BACK_OFF_S, _MOST_BACK_OFF_S)
        while not self._stopping:
            lived, what = await self._run_once()
            if self._stopping or self.exit_status == EX_CONFIG:
                break
            if lived > _SETTLED_S:
                back_off.reset()
            self._on_line(self.instance, what)
            pause = back_off.next()
            if pause > _SOON_S:
                self._say_gone()
            await asyncio.sleep(pause)
            self.restarts += 1
        self._set("misconfigured" if not self._stopping else "stopped")
        if self.misconfigured:
            self._on_line(self.instance, GIVEN_UP)
            self._say_gone()

    def _say_gone(self) -> None:
        self._on_gone(Gone(self.service, self.instance, datetime.now(UTC)))

    def restart(self) -> None:
        """Ask the process to end, so that it is started again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    async def stop(self, grace: float, at_once: asyncio.Event | None = None) -> None:
        """Ask the process to end, and end it after `grace` seconds, or as soon as it is to be `at_once`."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        hurry = at_once or asyncio.Event()
        async with beside(_ended(process), "end") as ended, beside(hurry.wait(), "at-once") as hurried:
            await asyncio.wait([ended, hurried], timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if process.poll() is None:
            if not hurry.is_set():
                self._on_line(self.instance, f"did not end within {grace:g} s; ending it")
            process.kill()
            await _ended(process)

    async def _run_once(self) -> tuple[float, str]:
        """Return how many seconds the process lived, and what there is to say of its end."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            self._process = self._start()
        except (OSError, subprocess.SubprocessError) as error:  # no memory, process or file is left for it
            return 0.0, f"cannot be started ({_why(error)}); trying again"
        self._since = datetime.now(UTC)
        self._set("running")
        await self._pump(self._process)
        self.exit_status = await _ended(self._process)
        self._set("waiting")
        return clock() - began, f"ended ({self._how()}); starting it again"

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            bufsize=0,
            env=self._env | {"PERPETUA_RESTARTS": str(self.restarts)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the supervisor's: it ends its children in order
            preexec_fn=_die_with_parent if _libc is not None else None,
        )

    async def _pump(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what the process prints, in a log that is bounded."""
        reader = asyncio.StreamReader(_LINE_BYTES)
        connect = asyncio.get_running_loop().connect_read_pipe
        pipe, _ = await connect(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        with closing(pipe):
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # a line longer than the limit
                    continue
                if not line:
                    return
                text = line.decode(errors="replace").rstrip("\n")
                if text and not text.startswith("{"):
                    self._last_words = text
                self._log.handle(logging.makeLogRecord({"msg": text}))
                self._on_line(self.instance, text)

    def _set(self, state: str) -> None:
        self._state = state
        self._on_change()

    def _how(self) -> str:
        status = self.exit_status or 0
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


class _Log(RotatingFileHandler):
    """A log of two files at most. A full disk loses lines, nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        pass


def _bounded_log(path: Path) -> logging.Handler:
    return _Log(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8", errors="replace", delay=True)


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status, once there is one."""
    while (status := process.poll()) is None:  # noqa: ASYNC110 - the system signals no event
        await asyncio.sleep(_ENDED_LOOK_S)
    return status


def _why(error: Exception) -> str:
    return at_limit(error) if isinstance(error, BlockingIOError) else str(error)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Have the kernel end this process when the supervisor dies, even by kill -9."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
