"""Containers for tests: podman without systemd or a registry, and stand-ins for base images.

The stand-ins carry the public names that the Dockerfile and docker-compose.yml use. Python's is a Debian
made by mmdebstrap, the broker's is the nats-server of this environment, Prometheus's is Debian's. Grafana's
serves the mounted dashboards as files and is no Grafana; Ollama's is `tests/support/endpoint.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.supervisor.broker import find_server
from tests.support.eventually import eventually_sync

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"
VERSION = "test"
PYTHON = "python:3.12-slim-bookworm"
NATS = "nats:2.15-alpine"
PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.0"
OLLAMA = "ollama/ollama:0.11.4"
TARGETS = ("registry", "scheduler", "compressor", "gateway", "thinker", "tools")

TOOLS = ("podman", "runc", "iptables", "mmdebstrap", "prometheus")
"""What is needed of the system; `just containers` installs it. Podman's networks need iptables."""

_ULIMITS = "nofile=8192:8192"
_CONF = (
    '[containers]\ndefault_ulimits = ["nofile=8192:8192","nproc=8192:8192"]\n'
    '[engine]\nruntime = "runc"\nevents_logger = "file"\n'
)
_DEBIAN = "python3,python3-venv,python3-pip,ca-certificates,libgomp1"
_SERVE = [
    "python3", "-c",
    "import functools, http.server as h, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
    "files = functools.partial(h.SimpleHTTPRequestHandler, directory='/etc/perpetua/dashboards')\n"
    "h.ThreadingHTTPServer(('', 3000), files).serve_forever()",
]  # fmt: skip
"""A file server that ends when it is told to: the first process of a container ignores SIGTERM otherwise."""

_FROM_HOST = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/resolv.conf")
"""What a build needs to reach the package registry as this machine does."""


def missing() -> str | None:
    """Return why no container test can run here, or None where they can."""
    if os.geteuid() != 0:
        return "they need root"
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    answer = subprocess.run(
        ["podman", "info"], capture_output=True, env=environment(), timeout=60, check=False
    )
    return None if answer.returncode == 0 else f"podman does not answer: {answer.stderr.decode()[-200:]}"


def environment() -> dict[str, str]:
    """Return the variables under which podman works without systemd.

    Others may read the configuration at this moment: it is put there whole.
    """
    conf = Path(tempfile.gettempdir()) / f"perpetua-containers-{os.getuid()}.conf"
    with tempfile.NamedTemporaryFile("w", dir=conf.parent, prefix=conf.stem, delete=False) as written:
        written.write(_CONF)
    Path(written.name).replace(conf)
    return os.environ | {"CONTAINERS_CONF": str(conf), "BUILDAH_ISOLATION": "chroot"}


def run(*command: str, within: float = 120, cwd: Path = ROOT, **more: str) -> str:
    """Run a command and return what it printed; one that fails is an error with its last words."""
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run(
            command, cwd=cwd, env=environment() | more, stdout=out, stderr=subprocess.STDOUT,
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
    """Make the stand-ins that are not there yet, but Ollama's."""
    make_broker_base()
    if not has_image(PYTHON):
        _debian(PYTHON)
    with tempfile.TemporaryDirectory() as folder:
        _image(Path(folder), GRAFANA, f"FROM localhost/{PYTHON}\nENTRYPOINT {json.dumps(_SERVE)}\n")
        text = (
            f"FROM localhost/{PYTHON}\nCOPY file /bin/prometheus\n"
            "RUN install -d -o 65534 -g 65534 /prometheus\n"
            'USER 65534:65534\nENTRYPOINT ["/bin/prometheus"]\n'
        )
        _image(Path(folder), PROMETHEUS, text, shutil.which("prometheus"))


def make_ollama_base() -> None:
    """Make the stand-in for Ollama's image: `tests/support/ollama.py`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in ("endpoint.py", "ollama.py"):
            shutil.copy(ROOT / "tests/support" / module, folder)
        command = folder / "ollama"
        command.write_text('#!/bin/sh\nexec env PYTHONPATH=/opt python3 -m tests.support.ollama "$@"\n')
        command.chmod(0o755)
        text = (
            f"FROM localhost/{PYTHON}\nCOPY endpoint.py ollama.py /opt/tests/support/\n"
            'COPY ollama /bin/ollama\nENTRYPOINT ["/bin/ollama"]\nCMD ["serve"]\n'
        )
        _image(folder, OLLAMA, text)


def make_broker_base() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _image(Path(folder), NATS, 'FROM scratch\nCOPY file /app\nENTRYPOINT ["/app"]\n', find_server())


def _debian(tag: str) -> None:
    with tempfile.TemporaryDirectory(prefix="perpetua-base-") as folder:
        archive, link = f"{folder}/base.tar", 'ln -s python3 "$1/usr/bin/python"'
        packages = [f"--include={_DEBIAN}", f"--customize-hook={link}"]
        run("mmdebstrap", "--variant=minbase", *packages, "bookworm", archive, within=400)
        podman("import", "-q", archive, f"localhost/{tag}", within=300)


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


@contextmanager
def socket(folder: Path) -> Iterator[str]:
    """Podman's Docker API on a socket while the context is open; yields its address."""
    path = folder / "podman.sock"
    command = ["podman", "system", "service", "--time=0", f"unix://{path}"]
    serving = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually_sync(path.exists, 60, "podman's socket")
        yield f"unix://{path}"
    finally:
        serving.terminate()
        serving.wait(60)
