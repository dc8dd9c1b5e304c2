"""Files and folders that are still there, whole, after a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Bring a folder of files onto the disk."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def rename(path: Path, target: Path) -> None:
    """Give a file or folder that is on the disk another name, which is then there too."""
    path.rename(target)
    sync(target.parent)
