"""docker-compose.yml as its reader uses it: `docker compose …` in a fresh clone.

podman-compose answers to that name here.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.containers import HOST, ROOT, VERSION, build_arguments, environment, inspected, podman, run
from tests.support.http import fetch
from tests.support.ports import free_port

PROFILES = ("gpu", "ollama", "tls")

_DOCKER = """#!/bin/sh
[ "$1" = compose ] || {{ echo "only docker compose is here, by podman-compose" >&2; exit 64; }}
shift
exec {compose} --podman-build-args {build} "$@"
"""


def clone(folder: Path) -> Path:
    """Return a fresh clone of this repository, with what is changed and not committed yet."""
    target = folder / "perpetua"
    _git(ROOT, "clone", "-q", str(ROOT), str(target))
    if changes := _git(ROOT, "diff", "--binary", "HEAD"):
        subprocess.run(["git", "apply"], input=changes, cwd=target, check=True)
    return target


def _git(folder: Path, *arguments: str) -> bytes:
    safe = ["git", "-c", "safe.directory=*"]
    return subprocess.run([*safe, *arguments], cwd=folder, capture_output=True, check=True).stdout


class Compose:
    """The compose file of a clone under a project name of its own; `settings` go into its `.env`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        settings: dict[str, str] | None = None,
        files: tuple[str, ...] = ("docker-compose.yml",),
    ) -> None:
        self.name, self.folder = name, folder
        self.gateway_port, self.grafana_port = free_port(HOST), free_port(HOST)
        self.url = f"http://{HOST}:{self.gateway_port}"
        written = {
            "PERPETUA_VERSION": VERSION,
            "PERPETUA_GATEWAY_PORT": str(self.gateway_port),
            "GRAFANA_PORT": str(self.grafana_port),
        } | (settings or {})
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in written.items()))
        self._environment = {
            "COMPOSE_PROJECT_NAME": name,
            "COMPOSE_FILE": ":".join(files),
            "PATH": f"{_docker(folder.parent)}:{environment()['PATH']}",
        }

    def type(self, line: str, within: float = 400) -> str:
        """Run a line of a shell in the clone, and return what it printed."""
        return run("sh", "-euc", line, cwd=self.folder, within=within, **self._environment)

    def __call__(self, *arguments: str, within: float = 400) -> str:
        return self.type(shlex.join(("docker", "compose", *arguments)), within)

    def http(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = fetch(self.url + path, method, body, timeout=15)
        return answer.status, answer.json if answer.body else None

    def get(self, path: str) -> Any:
        status, body = self.http("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, body: object = None) -> Any:
        status, answer = self.http("POST", path, body)
        assert status == 200, answer
        return answer

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.name}_{service}_{number}"

    def address(self, service: str, number: int = 1) -> str:
        """Return a container's address on the bridge, which this machine, and no other, reaches."""
        networks = inspected(self.container(service, number))["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def volume(self, name: str) -> Path:
        """Return where this machine keeps a volume."""
        return Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", f"{self.name}_{name}").strip())

    def end_scaled(self) -> None:
        """End what was scaled up: podman-compose's `down`, unlike Docker's, sees the first of each only."""
        found = podman("ps", "-a", "--filter", f"name={self.name}_", "--format", "{{.Names}}").split()
        if scaled := [name for name in found if not name.endswith("_1")]:
            podman("rm", "-f", "-t", "15", *scaled)

    def close(self) -> None:
        self.end_scaled()
        profiles = [part for profile in PROFILES for part in ("--profile", profile)]
        self(*profiles, "down", "-v", "-t", "0")


def _docker(folder: Path) -> Path:
    """Return a folder that holds the command `docker`."""
    command = folder / "bin/docker"
    command.parent.mkdir(exist_ok=True)
    compose = Path(sys.executable).with_name("podman-compose")
    build = shlex.quote(" ".join(build_arguments()))
    command.write_text(_DOCKER.format(compose=shlex.quote(str(compose)), build=build))
    command.chmod(0o755)
    return command.parent
