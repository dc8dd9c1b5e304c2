"""Containers for tests: podman without systemd or a registry, stand-ins for base images, compose.

The stand-ins carry the public names that the Dockerfile and docker-compose.yml use. Python's is a Debian
made by debootstrap, the broker's is the nats-server of this environment, Prometheus's is Debian's. Grafana's
serves the mounted dashboards as files and is no Grafana.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.supervisor.broker import find_server, free_port
from tests.support.eventually import eventually_sync

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"
VERSION = "test"
PYTHON = "python:3.12-slim-bookworm"
NATS = "nats:2.15-alpine"
PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.0"
TARGETS = ("registry", "scheduler", "compressor", "gateway", "thinker", "tools")

_ULIMITS = "nofile=8192:8192"
_CONF = (
    '[containers]\ndefault_ulimits = ["nofile=8192:8192","nproc=8192:8192"]\n'
    '[engine]\nruntime = "runc"\nevents_logger = "file"\n'
)
_DEBIAN = "python3,python3-venv,python3-pip,ca-certificates,libgomp1"
_FROM_HOST = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/resolv.conf")
"""What a build needs to reach the package registry as this machine does."""


def missing() -> str | None:
    """Return why no container test can run here, or None where they can."""
    if os.geteuid() != 0:
        return "they need root"
    for tool in ("podman", "runc", "debootstrap", "prometheus"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    answer = subprocess.run(
        ["podman", "info"], capture_output=True, env=environment(), timeout=60, check=False
    )
    return None if answer.returncode == 0 else f"podman does not answer: {answer.stderr.decode()[-200:]}"


def environment() -> dict[str, str]:
    """Return the variables under which podman works without systemd."""
    conf = Path(tempfile.gettempdir()) / f"perpetua-containers-{os.getuid()}.conf"
    conf.write_text(_CONF)
    return os.environ | {"CONTAINERS_CONF": str(conf), "BUILDAH_ISOLATION": "chroot"}


def run(*command: str, within: float = 120, **more: str) -> str:
    """Run a command and return what it printed; one that fails is an error with its last words."""
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run(
            command, cwd=ROOT, env=environment() | more, stdout=out, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, timeout=within, check=False,
        )  # fmt: skip
        out.seek(0)
        said = out.read()
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said[-4000:]}"
    return said


def podman(*arguments: str, within: float = 120) -> str:
    return run("podman", "--log-level=error", *arguments, within=within)


def inspected(name: str) -> dict[str, Any]:
    """Return what podman says of an image or container."""
    found: list[dict[str, Any]] = json.loads(podman("inspect", name).partition("[")[2].join(("[", "")))
    return found[0]


def has_image(name: str) -> bool:
    command = ["podman", "image", "exists", f"localhost/{name}"]
    return subprocess.run(command, env=environment(), check=False).returncode == 0


def build_arguments() -> list[str]:
    """Return what a build needs here beyond what it needs where Docker is."""
    mounts = [f"--volume={path}:{path}:ro" for path in _FROM_HOST if Path(path).exists()]
    return ["--format=docker", "--pull=never", "--network=host", f"--ulimit={_ULIMITS}", "--layers", *mounts]


def make_bases() -> None:
    """Make the stand-ins that are not there yet."""
    if not has_image(PYTHON):
        _debian(PYTHON)
    with tempfile.TemporaryDirectory() as folder:
        _image(Path(folder), NATS, 'FROM scratch\nCOPY file /app\nENTRYPOINT ["/app"]\n', find_server())
        serving = (
            'ENTRYPOINT ["python3", "-m", "http.server", "3000", "--directory", "/etc/perpetua/dashboards"]'
        )
        _image(Path(folder), GRAFANA, f"FROM localhost/{PYTHON}\n{serving}\n")
        text = (
            f"FROM localhost/{PYTHON}\nCOPY file /bin/prometheus\n"
            "RUN install -d -o 65534 -g 65534 /prometheus\n"
            'USER 65534:65534\nENTRYPOINT ["/bin/prometheus"]\n'
        )
        _image(Path(folder), PROMETHEUS, text, shutil.which("prometheus"))


def build_images() -> None:
    """Build the project's images as docker-compose.yml names them."""
    for target in TARGETS:
        podman(
            "build", "-q", *build_arguments(), "-f", "deploy/Dockerfile", "--target", target,
            "-t", f"localhost/perpetua-{target}:{VERSION}", ".", within=400,
        )  # fmt: skip


def _debian(tag: str) -> None:
    root = tempfile.mkdtemp(prefix="perpetua-base-")
    try:
        run("debootstrap", "--variant=minbase", f"--include={_DEBIAN}", "bookworm", root, within=400)
        (Path(root) / "usr/bin/python").symlink_to("python3")
        archive = f"{root}.tar"
        run("tar", "-C", root, "-cf", archive, ".")
        podman("import", "-q", archive, f"localhost/{tag}", within=300)
        Path(archive).unlink()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _image(folder: Path, tag: str, text: str, file: str | None = None) -> None:
    (folder / "Containerfile").write_text(text)
    if file is not None:
        shutil.copy(Path(file).resolve(), folder / "file")
    podman(
        "build",
        "-q",
        "--pull=never",
        f"--ulimit={_ULIMITS}",
        "--layers",
        "-t",
        f"localhost/{tag}",
        str(folder),
    )


class Compose:
    """docker-compose.yml under a project name of its own, on free ports."""

    def __init__(
        self, name: str, *, settings: dict[str, str] | None = None, files: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.gateway_port, self.grafana_port = free_port(HOST), free_port(HOST)
        self.url = f"http://{HOST}:{self.gateway_port}"
        self.settings = {
            "PERPETUA_VERSION": VERSION,
            "PERPETUA_GATEWAY_PORT": str(self.gateway_port),
            "GRAFANA_PORT": str(self.grafana_port),
        } | (settings or {})
        self._files = [part for file in ("docker-compose.yml", *files) for part in ("-f", file)]

    def __call__(self, *arguments: str, within: float = 150) -> str:
        compose = str(Path(sys.executable).with_name("podman-compose"))
        command = [compose, *self._files, "-p", self.name, "--podman-build-args", " ".join(build_arguments())]
        return run(*command, *arguments, within=within, **self.settings)

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.name}_{service}_{number}"

    def address(self, service: str, number: int = 1) -> str:
        """Return a container's address on the bridge, which this machine, and no other, reaches."""
        networks = inspected(self.container(service, number))["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def logs(self, service: str, number: int = 1) -> str:
        return podman("logs", self.container(service, number))

    def end_scaled(self) -> None:
        """End what was scaled up: podman-compose's `down`, unlike Docker's, sees the first of each only."""
        found = podman("ps", "-a", "--filter", f"name={self.name}_", "--format", "{{.Names}}").split()
        if scaled := [name for name in found if not name.endswith("_1")]:
            podman("rm", "-f", "-t", "15", *scaled)

    def close(self) -> None:
        self.end_scaled()
        self("down", "-v", "-t", "5")


@contextmanager
def socket(folder: Path) -> Iterator[str]:
    """Podman's Docker API on a socket while the context is open; yields its address."""
    path = folder / "podman.sock"
    command = ["podman", "system", "service", "--time=0", f"unix://{path}"]
    serving = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually_sync(path.exists, 20, "podman's socket")
        yield f"unix://{path}"
    finally:
        serving.terminate()
        serving.wait(10)
