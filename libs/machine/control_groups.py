"""What the control groups of this process allow it, as containers' limits are set, of version 2 or 1.

A limit of a group above counts as well. A container may see its own group as the topmost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

Number = TypeVar("Number", int, float)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of time of the tightest limit; None where there is none."""
    return _least("cpu", _cores, root)


def memory_left(root: Path = Path("/")) -> int | None:
    """Return how many bytes the tightest limit leaves beyond what is used; None where there is none.

    Pages of files that nobody used of late count as free, as the kernel takes them back.
    """
    return _least("memory", _bytes_left, root)


def _least(controller: str, limit: Callable[[Path], Number | None], root: Path) -> Number | None:
    found = (limit(folder) for folder in _groups(controller, root))
    return min((value for value in found if value is not None), default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of a controller's groups that this process is in."""
    mounted = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
            for count in range(len(parts) + 1):
                yield Path(mounted / controllers, *parts[:count])


def _cores(group: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota = (group / "cpu.cfs_quota_us").read_text()
        return int(quota) / int((group / "cpu.cfs_period_us").read_text()) if int(quota) > 0 else None
    return None


def _bytes_left(group: Path) -> int | None:
    for most, used, free in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # `max` is no number
            limit = int((group / most).read_text())
            return max(limit - int((group / used).read_text()) + _stat(group, free), 0)
    return None


def _stat(group: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(fields.get(name, 0))
    return 0
