"""How many cores and how much memory a container's limits leave a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.machine.control_groups import cpu_quota, memory_left
from libs.models import needs
from services.thinker.backends import devices
from services.thinker.backends.devices import cores


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Write what the kernel would show: a process's groups, and files of groups."""
    shown = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in shown.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:cpuset:/\n0::/\n"
CORES: dict[str, tuple[str, dict[str, str], float | None]] = {
    "version 2, a container": ("0::/\n", {"cpu.max": "400000 100000\n"}, 4.0),
    "version 2, part of a core": ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
    "version 2, no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "version 2, a group above is tighter": (
        "0::/pod/box\n",
        {"pod/cpu.max": "150000 100000\n", "pod/box/cpu.max": "400000 100000\n"},
        1.5,
    ),
    "version 2, seen from without": (
        "0::/../../box\n",
        {"box/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "version 1": (
        V1,
        {
            "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, a container that sees only its own": (
        V1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        3.0,
    ),
    "version 1, no limit": (
        V1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "what nobody can read": ("0::/\n", {"cpu.max": "soon\n"}, None),
    "no groups": ("", {}, None),
}


@pytest.mark.parametrize("case", CORES)
def test_the_tightest_limit_of_a_process_s_groups_is_found(case: str, tmp_path: Path) -> None:
    groups, files, quota = CORES[case]
    assert cpu_quota(machine(tmp_path, groups, files)) == quota


MEMORY: dict[str, tuple[str, dict[str, str], int | None]] = {
    "version 2, a container": ("0::/\n", {"memory.max": "1000\n", "memory.current": "900\n"}, 100),
    "version 2, pages of files count as free": (
        "0::/\n",
        {
            "memory.max": "1000\n",
            "memory.current": "900\n",
            "memory.stat": "anon 200\nfile 700\ninactive_file 600\nactive_file 100\n",
        },
        700,
    ),
    "version 2, no limit": ("0::/\n", {"memory.max": "max\n", "memory.current": "900\n"}, None),
    "version 2, a group above is tighter": (
        "0::/pod/box\n",
        {
            "pod/memory.max": "1000\n",
            "pod/memory.current": "990\n",
            "pod/box/memory.max": "800\n",
            "pod/box/memory.current": "500\n",
        },
        10,
    ),
    "more is used than may be": ("0::/\n", {"memory.max": "10\n", "memory.current": "11\n"}, 0),
    "version 1": (
        V1,
        {
            "memory/docker/ab/memory.limit_in_bytes": "1000\n",
            "memory/docker/ab/memory.usage_in_bytes": "900\n",
            "memory/docker/ab/memory.stat": "total_inactive_file 50\n",
        },
        150,
    ),
    "no groups": ("", {}, None),
}


@pytest.mark.parametrize("case", MEMORY)
def test_the_least_that_a_process_s_groups_leave_it_is_found(case: str, tmp_path: Path) -> None:
    groups, files, left = MEMORY[case]
    root = machine(tmp_path, groups, files)
    assert memory_left(root) == left
    available = needs.memory_available(root)
    assert available == left if left is not None else available > 1000, "what the machine has"


def test_a_machine_without_the_files_has_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert memory_left(tmp_path) is None


@pytest.mark.parametrize(("quota", "used"), [(4.0, 4), (0.5, 1), (1.5, 2), (None, 64), (1000.0, 64)])
def test_no_more_cores_are_used_than_there_is_time_for(
    quota: float | None, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node of 64 cores."""
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: set(range(64)))  # type: ignore[attr-defined]
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)
    assert cores() == used
