"""Rules of the house that no linter knows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.facts import FACTS
from tests.conftest import ALONE, TESTS, WAITING

ROOT = Path(__file__).parent.parent.parent
SERVICES = ["registry", "scheduler", "thinker", "compressor", "gateway"]
# Bracketed, so that this file does not hold what it forbids.
HOSTS = re.compile(r"p[y]pi[.]o|p[y]thonhosted[.]|registry[.]n[p]mjs|d[e]b[.]debian[.]")
MACHINE = re.compile(r"/w[o]rk/(main|steering|shared|[.]library)|/f[a]rm/")


def tracked() -> list[Path]:
    """The files that are, or are about to be, in the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        try:
            found.append((path, path.read_text()))
        except UnicodeDecodeError:
            continue
    return found


def test_no_python_file_is_longer_than_400_lines() -> None:
    long = [p for p, text in texts() if p.suffix == ".py" and text.count("\n") > 400]
    assert long == []


def test_no_file_names_a_package_registry_or_a_path_of_some_machine() -> None:
    named = [p for p, text in texts() if HOSTS.search(text) or MACHINE.search(text)]
    assert named == []


def test_nothing_is_tracked_that_should_not_be() -> None:
    names = [str(p.relative_to(ROOT)) for p in tracked()]
    assert not [n for n in names if re.search(r"(^|/)(uv\.lock|\.venv/|__pycache__/|node_modules/)", n)]


def test_the_top_level_is_what_was_agreed() -> None:
    top = {p.relative_to(ROOT).parts[0] for p in tracked()}
    agreed = {
        "services", "libs", "deploy", "tests", "docs", "bench", "requirements", "docker-compose.yml",
        "justfile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", ".gitignore", ".ci",
    }  # fmt: skip
    assert top <= agreed


@pytest.mark.parametrize("service", SERVICES)
def test_services_have_one_shape(service: str) -> None:
    folder = ROOT / "services" / service
    assert {"__init__.py", "__main__.py", "service.py"} <= {p.name for p in folder.iterdir()}
    assert "async def lifespan(process: Process)" in (folder / "service.py").read_text()


def test_every_fact_is_cited_by_a_test_and_lives_where_the_table_says() -> None:
    cited = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        cited |= set(re.findall(r'mark\.fact\("([0-9A-Z.]+)"\)', path.read_text()))
    assert FACTS.keys() - cited == set()
    assert cited - FACTS.keys() == set(), "a test cites a number that is no fact"
    for number, fact in FACTS.items():
        for name in fact.files:
            assert (ROOT / name).exists(), f"{number}: {name}"


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_in_the_documentation_lead_somewhere() -> None:
    for path, text in texts():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#:\s]+)\)", text):
            assert (path.parent / target).exists(), f"{path.name} → {target}"


def test_importing_anything_opens_nothing_and_reads_no_environment() -> None:
    """Nothing reads the environment or opens a resource at import; only `__main__` does."""
    forbidden = re.compile(r"^(?!\s|#|def |class |async ).*\b(os\.environ|open\(|connect\(|socket\()", re.M)
    modules = [
        (p, t) for p, t in texts()
        if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in ("libs", "services")
    ]  # fmt: skip
    assert [p for p, text in modules if forbidden.search(text)] == []


def test_tests_that_run_apart_are_there() -> None:
    """A file of another name would run among the others, and nobody would see it."""
    assert [name for name in sorted(ALONE | WAITING) if not (TESTS / name).exists()] == []


def test_ci_fails_where_container_tests_cannot_run() -> None:
    """Nowhere else would anybody notice that they never do."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/containers"]
    env = os.environ | {"PATH": "/nowhere", "PERPETUA_TESTS_STRICT": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "container tests cannot run" in done.stderr
