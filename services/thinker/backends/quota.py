"""How much processor time the control groups of this process allow it, as containers' limits are set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of time of the tightest limit, of version 2 or 1; None where there is none.

    A limit of a group above counts as well. A container may see its own group as the topmost.
    """
    return min((limit for folder in _groups(root) if (limit := _limit(folder)) is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the processor's groups that this process is in."""
    mounted = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
            for count in range(len(parts) + 1):
                yield Path(mounted / controllers, *parts[:count])


def _limit(group: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota = (group / "cpu.cfs_quota_us").read_text()
        return int(quota) / int((group / "cpu.cfs_period_us").read_text()) if int(quota) > 0 else None
    return None
