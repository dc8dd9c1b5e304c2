"""The models of a data folder: `models/<name>/` holds a finished one, and its manifest says where it is from.

What is not finished is below `models/.pull/<name>/` and is never taken for a model: a finished one is renamed
into its place in one step.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from libs.models import durable
from libs.models.errors import ModelError
from libs.models.manifest import Manifest, Unfinished
from libs.models.names import SAFE, folder_name, split

MANIFEST = "manifest.json"
MODEL = "model.bin"
SOURCE = "source-"
"""How the folder of what a pull fetched begins; the commit follows."""

MADE = "made"
"""The folder of a model that is being made."""

_OLD = "old"
"""The folder of the model whose place another one takes, for as long as that takes."""

_PULLS = ".pull"


_decode = msgspec.json.Decoder(Manifest).decode


class Store:
    """The `models` folder of a data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, asked: str) -> Manifest | None:
        """Return a finished model by its name, the name it was asked by, or its repository.

        With `@REVISION` only one of that commit, or whose commit begins so.
        """
        _, revision = split(asked)
        return next((model for model in self.called(asked) if _is_at(model, revision)), None)

    def called(self, asked: str) -> list[Manifest]:
        """Return the finished models that are called so, at whatever revision."""
        base, _ = split(asked)
        named = [self._manifest(name) for name in dict.fromkeys((base, folder_name(base)))]
        found = [model for model in named if model is not None]
        return found + [model for model in self.all() if model.repo == base and model not in found]

    def folder(self, manifest: Manifest) -> Path:
        """Return where a model lies."""
        return self.path / manifest.name

    def all(self) -> list[Manifest]:
        """Return the finished models, by name."""
        if not self.path.is_dir():
            return []
        found = (self._manifest(path.name) for path in sorted(self.path.iterdir()))
        return [manifest for manifest in found if manifest is not None]

    def newest(self) -> Manifest | None:
        """Return the model that was made last."""
        return max(self.all(), key=lambda manifest: manifest.made_at, default=None)

    def unfinished(self) -> list[Unfinished]:
        """Return the pulls that did not end, by name."""
        pulls = self.path / _PULLS
        if not pulls.is_dir():
            return []
        folders = (path for path in sorted(pulls.iterdir()) if path.is_dir())
        found = (Unfinished(name=path.name, size=_size(path)) for path in folders)
        return [pull for pull in found if pull.size]

    def remove(self, asked: str) -> int:
        """Remove a model and what a pull of it left; return the bytes freed. Raises `ModelError`."""
        manifest = self.find(asked)
        name = manifest.name if manifest is not None else folder_name(asked)
        if manifest is None and (self.called(asked) or not self._has_left(asked)):
            raise ModelError(self.absent(asked))
        with self.pulling(name) as work:
            folders = [work, self.path / name] if manifest is not None else [work]
            freed = sum(_size(folder) for folder in folders)
            for folder in folders:
                _remove(folder)
        return freed

    def absent(self, asked: str) -> str:
        """Return the sentence for a model that is not there."""
        if others := self.called(asked):
            return _other(asked, others)
        if any(pull.name == folder_name(asked) for pull in self.unfinished()):
            return (
                f"the pull of {asked} did not end. Go on with `perpetua model pull {asked}`, or remove what "
                f"it left with `perpetua model rm {folder_name(asked)}`"
            )
        names = ", ".join(manifest.name for manifest in self.all())
        return f"there is no model {asked!r} in {self.path} (there: {names or 'none'})"

    def _has_left(self, asked: str) -> bool:
        """Whether a pull of a model, of its revision where one is named, left something."""
        name, (_, revision) = folder_name(asked), split(asked)
        work = self.path / _PULLS / name
        if SAFE.fullmatch(name) is None or not work.is_dir():
            return False
        sources = (path.name.removeprefix(SOURCE) for path in work.iterdir() if path.name.startswith(SOURCE))
        return revision is None or any(commit.startswith(revision) for commit in sources)

    @contextmanager
    def pulling(self, name: str) -> Iterator[Path]:
        """Be the only pull of a name while the context is open; yield the folder for what is not finished.

        Raises `ModelError` where another has it.
        """
        work = self.path / _PULLS / name
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = os.open(work.with_name(f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ModelError(
                f"cannot write to {self.path}: {error.strerror}. Choose another folder with --data-dir"
            ) from error
        try:
            self._claim(lock, name)
            yield work
        finally:
            with suppress(OSError):
                work.rmdir()  # where nothing was left in it
            os.close(lock)

    def _claim(self, lock: int, name: str) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"another pull of {name} runs in {self.path}. Wait for it, or end it") from None

    def finish(self, made: Path, manifest: Manifest) -> Path:
        """Put a model that is complete into its place, in the place of an older one. Return where it is."""
        (made / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        durable.sync_all(made)
        target = self.path / manifest.name
        old = made.with_name(_OLD)
        _remove(old)
        if target.exists():
            target.rename(old)
        durable.rename(made, target)
        _remove(old)
        _remove(made.parent)
        return target

    def recover(self, name: str) -> None:
        """Put a model into its place whose pull ended while the old one was away: the new one, else the old.

        Raises `ModelError` where another pull has the name.
        """
        work, target = self.path / _PULLS / name, self.path / name
        if not (work / _OLD).is_dir():
            return
        with self.pulling(name):
            if not target.exists():
                durable.rename(work / (MADE if _read(work / MADE) is not None else _OLD), target)
            _remove(work / _OLD)

    def _manifest(self, name: str) -> Manifest | None:
        return _read(self.path / name) if SAFE.fullmatch(name) is not None else None


def _is_at(model: Manifest, revision: str | None) -> bool:
    if revision is None:
        return True
    return model.revision is not None and model.revision.startswith(revision)


def _other(asked: str, there: list[Manifest]) -> str:
    base, revision = split(asked)
    kept = ", ".join(f"{m.name} at {m.revision[:12] if m.revision else 'no revision'}" for m in there)
    return (
        f"{base} is not there at {revision!r} (there: {kept}). Leave out the @, name the commit, or pull "
        "that revision"
    )


def _read(folder: Path) -> Manifest | None:
    """Return the manifest of a finished model's folder."""
    if not (folder / MODEL).is_file():
        return None
    try:
        return _decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with suppress(OSError):
            total += file.lstat().st_size if file.is_file() else 0
    return total
