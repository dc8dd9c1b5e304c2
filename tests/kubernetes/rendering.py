"""The overlays as `kubectl kustomize` renders them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
OVERLAYS = ("dev", "production", "gpu", "external-nats")
SERVICES = {"registry", "scheduler", "compressor", "gateway", "thinker"}
Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Manifest]:
    return of_folder(ROOT / "deploy/kubernetes/overlays" / overlay)


def of_folder(folder: Path) -> list[Manifest]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", folder],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return list(yaml.safe_load_all(done.stdout))


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in rendered(overlay):
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{manifest['kind']} {manifest['metadata']['name']}", manifest["spec"]["template"]["spec"]


def containers(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in pods(overlay):
        for container in pod["containers"] + pod.get("initContainers", []):
            yield name, container


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in rendered(overlay) if m["kind"] == kind}


def settings(overlay: str) -> dict[str, str]:
    """What every container is given by the ConfigMap."""
    data: dict[str, str] = named(overlay, "perpetua-settings")["data"]
    return data


def named(overlay: str, beginning: str) -> Manifest:
    """The first manifest whose name begins so; kustomize adds a hash."""
    return next(m for m in rendered(overlay) if m["metadata"]["name"].startswith(beginning))
