"""A whole swarm, brought up as a user does: `perpetua up` in a data folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from libs.contracts.permissions import inbox
from libs.supervisor.keys import seed_file
from tests.support.eventually import eventually_sync
from tests.support.http import Answer, fetch
from tests.support.ports import free_port

HOST = "127.0.0.1"
PREFIX = "CODETETHER_COGNITION_"
_READ_WITHIN_S = 10.0


class Swarm:
    """Runs `perpetua up` and talks to it over HTTP, NATS and its command line."""

    def __init__(
        self,
        *arguments: str,
        settings: dict[str, str] | None = None,
        own: dict[str, str] | None = None,
        data: Path | None = None,
    ) -> None:
        self.data = data or Path(tempfile.mkdtemp(prefix="perpetua-swarm-"))
        self._keep_data = data is not None
        self.gateway_port = free_port(HOST)
        self.nats_port = free_port(HOST)
        self.url = f"http://{HOST}:{self.gateway_port}"
        self.nats_url = f"nats://{HOST}:{self.nats_port}"
        self.arguments = arguments
        self.settings = {f"{PREFIX}{name}": value for name, value in (settings or {}).items()}
        self.settings |= {f"PERPETUA_{name}": value for name, value in (own or {}).items()}
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self, *, until_ready: bool = True, stdout: int | None = None) -> Swarm:
        """Bring it up. With `stdout`, a descriptor, `output` has what is printed on standard error alone."""
        command = [sys.executable, "-m", "libs.cli", "up", "--data-dir", str(self.data)]
        command += ["--gateway-port", str(self.gateway_port), "--nats-port", str(self.nats_port)]
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            env=os.environ | self.settings,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
            text=True,
        )
        read = self.process.stdout if stdout is None else self.process.stderr
        assert read is not None
        self._reader = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._reader.start()
        if until_ready:
            self.until_output("ready")
        return self

    def _read(self, printed: IO[str]) -> None:
        with printed as lines:
            for line in lines:
                self.output.append(line.rstrip("\n"))

    def until_output(self, text: str, within: float = 40.0) -> str:
        """Return the first line of what `up` printed that holds a text."""

        def find() -> str | None:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"up ended with {self.process.returncode}: {self.output}")
            return next((line for line in list(self.output) if text in line), None)

        return eventually_sync(find, within, f"{text!r} in the output") or ""

    def stop(self, number: signal.Signals = signal.SIGINT, within: float = 40.0) -> int:
        """End `up` as Ctrl-C does and return its exit status; `output` has all that it printed."""
        assert self.process is not None and self._reader is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(within)
        self._reader.join(_READ_WITHIN_S)
        return status

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if not self._keep_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def http(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """Make a request; errors are answers, too."""
        return fetch(self.url + path, method, body, raw=raw, headers=headers, timeout=timeout)

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that succeeds."""
        answer = self.http("GET", path)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    def post(self, path: str, body: object = None) -> Any:
        """Return the JSON of a POST that succeeds."""
        answer = self.http("POST", path, body)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `perpetua` against this swarm."""
        command = [sys.executable, "-m", "libs.cli", *arguments, "--data-dir", str(self.data)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=os.environ | self.settings, check=False
        )

    def nats_as(self, user: str) -> dict[str, Any]:
        """Return what nats-py must be told to be one of the users of `perpetua keys`."""
        return {"nkeys_seed": str(seed_file(self.data / "keys", user)), "inbox_prefix": inbox(user)}

    def ps(self) -> list[dict[str, Any]]:
        """Return the living processes."""
        done = self.cli("ps", "--json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def metrics_ports(self, services: Collection[str]) -> dict[str, int]:
        """Return the metrics port of each of these, who may all be heard of a little later.

        `ps` waits for the broker no longer than a person would.
        """

        def found() -> dict[str, int] | None:
            heard = {row["service"]: row["metrics_port"] for row in self.ps() if row["metrics_port"]}
            wanted = {service: port for service, port in heard.items() if service in services}
            return wanted if len(wanted) == len(services) else None

        return eventually_sync(found, what="everybody heard of") or {}

    def pid(self, service: str) -> int:
        return int(next(row["pid"] for row in self.ps() if row["service"] == service))

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """Return every event that the stream holds now after a sequence, each with its `sequence`."""
        found: list[dict[str, Any]] = []
        last: int | None = None
        while True:
            page = self.get(f"/v1/cognition/events?after={after}&limit=1000")
            found += [{"sequence": entry["sequence"], **entry["event"]} for entry in page["events"]]
            last = page["last_sequence"] if last is None else last
            before, after = after, page["next_after"]
            if after == before or after >= last:
                return found


@contextmanager
def swarm(
    *arguments: str,
    settings: dict[str, str] | None = None,
    own: dict[str, str] | None = None,
    data: Path | None = None,
) -> Iterator[Swarm]:
    """A swarm that is up and ready while the context is open.

    `settings` are the reference's, `own` those of this project, both without their prefixes.
    """
    running = Swarm(*arguments, settings=settings, own=own, data=data)
    try:
        yield running.start()
    finally:
        running.close()
