"""What the images are: small, without rights or tools to build with, able to say whether they are well."""

from __future__ import annotations

import re
import subprocess

import pytest

from libs.supervisor.up import ALLOCATOR
from tests.support.containers import PYTHON, ROOT, TARGETS, VERSION, environment, inspected, podman

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900), pytest.mark.usefixtures("system")]

SERVICES = [target for target in TARGETS if target != "tools"]
MOST_MIB = {
    "registry": 40, "scheduler": 40, "compressor": 40, "tools": 72, "gateway": 120, "thinker": 520,
}  # fmt: skip
"""What a role may add to its base image, in MiB."""


def documented() -> dict[str, int]:
    """What docs/operations.md says that each adds, in MiB."""
    rows = re.findall(r"(?m)^\| ([a-z, -]+) \| (\d+) MiB \|", (ROOT / "docs/operations.md").read_text())
    return {target: int(mib) for targets, mib in rows for target in targets.split(", ")}


HEAVY = ("ctranslate2", "transformers", "numpy", "tokenizers")


def name(target: str) -> str:
    return f"localhost/perpetua-{target}:{VERSION}"


def python(target: str, code: str) -> subprocess.CompletedProcess[str]:
    command = ["podman", "run", "--rm", "--read-only", "--network=none", "--cap-drop=all", "--no-healthcheck"]
    return subprocess.run(
        [*command, "--entrypoint=python", name(target), "-c", code],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_adds_little_to_its_base(target: str) -> None:
    added = int(inspected(name(target))["Size"]) - int(inspected(f"localhost/{PYTHON}")["Size"])
    mib = round(added / 2**20)
    assert mib < MOST_MIB[target]
    assert mib == pytest.approx(documented()[target], rel=0.03, abs=2), "docs/operations.md says otherwise"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_rights_and_says_what_it_is(target: str) -> None:
    config = inspected(name(target))["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "perpetua"
    assert config["Labels"]["org.opencontainers.image.version"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_health_check(service: str) -> None:
    found = inspected(name(service))
    check = found.get("Healthcheck") or found["Config"]["Healthcheck"]  # podman's place, Docker's place
    assert check["Test"] == ["CMD", "python", "-m", "libs.runtime.probe"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_nothing_to_build_with(target: str) -> None:
    done = python(
        target,
        "import importlib.util as u, shutil, os; print(os.getuid()); "
        "print([t for t in ('pip', 'pip3', 'gcc', 'cc', 'make', 'uv') if shutil.which(t)]); "
        "print([m for m in ('pip', 'setuptools', 'ensurepip', 'hatchling', 'pytest') if u.find_spec(m)])",
    )
    assert done.stdout.split("\n")[:3] == ["10001", "[]", "[]"], done.stderr


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "thinker"])
def test_only_thinkers_carry_what_runs_a_model(target: str) -> None:
    done = python(target, f"import importlib.util as u; print([m for m in {HEAVY} if u.find_spec(m)])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_every_module_it_may_load(service: str) -> None:
    """Also those that are loaded late: each module of the service is imported."""
    modules = (
        "import importlib, pkgutil; from libs.runtime.imports import preload; preload(); "
        f"package = importlib.import_module('services.{service}'); "
        "names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]; "
        "[importlib.import_module(n) for n in names if not n.endswith('__main__')]; print(len(names))"
    )
    done = python(service, modules)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3


def test_a_thinker_keeps_its_memory_as_under_up() -> None:
    env = dict(pair.split("=", 1) for pair in inspected(name("thinker"))["Config"]["Env"])
    assert {key: env.get(key) for key in ALLOCATOR} == dict(ALLOCATOR)


def test_the_command_line_is_there() -> None:
    assert "provision" in podman("run", "--rm", "--read-only", name("tools"), "--help")
    assert "pull" in podman(
        "run", "--rm", "--read-only", "--entrypoint=perpetua", name("thinker"), "model", "--help"
    )
