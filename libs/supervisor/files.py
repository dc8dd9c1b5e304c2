"""Files of keys and certificates: made once, brought up to date, and what became of each."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

_PUBLIC = (".crt", ".conf")


class KeyFile(Struct, frozen=True, kw_only=True):
    """A file of a folder, and what has become of it."""

    file: str
    status: str
    """`created`, `kept` or `updated`; of an updated one, but not of a copy, the former is kept as `.old`."""

    user: str | None = None
    public: str | None = None
    """The user's public key, for files of seeds."""


def once(path: Path, text: str, mode: int) -> KeyFile:
    """Write a file unless it is there, whatever it holds."""
    if path.exists():
        return KeyFile(file=path.name, status="kept")
    write_new(path, text.encode(), mode)
    return KeyFile(file=path.name, status="created")


def current(path: Path, text: str, mode: int) -> KeyFile:
    """Bring a file up to date; the former stays beside it."""
    with suppress(FileNotFoundError):
        if path.read_text() == text:
            return KeyFile(file=path.name, status="kept")
        path.replace(path.with_suffix(path.suffix + ".old"))
        write_new(path, text.encode(), mode)
        return KeyFile(file=path.name, status="updated")
    return once(path, text, mode)


def copied(source: Path, folder: Path) -> KeyFile | None:
    """Bring a copy in another folder up to date; None, and no copy, where there is nothing to copy.

    Secrets are for their owner's eyes alone.
    """
    target = folder / source.name
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = target.exists()
    if there and target.read_bytes() == data:
        return KeyFile(file=f"{folder.name}/{target.name}", status="kept")
    target.unlink(missing_ok=True)
    write_new(target, data, 0o644 if source.suffix in _PUBLIC else 0o600)
    return KeyFile(file=f"{folder.name}/{target.name}", status="updated" if there else "created")


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, in one step. Raises `FileExistsError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.link(temporary, path)  # unlike a rename it replaces nothing
    finally:
        temporary.unlink()
