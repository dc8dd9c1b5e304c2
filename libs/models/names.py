"""What a user may call a model: a name known here, a repository, or a folder."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from libs.models.errors import ModelError

DEFAULT = "qwen2.5-0.5b"
TINY = "tiny"
"""Not pulled but made on the spot, by `perpetua up`."""

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""Names that are one harmless folder."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class Known(Struct, frozen=True):
    """A model with a short name. None of these is gated."""

    repo: str
    size: str
    licence: str


KNOWN = {
    DEFAULT: Known("Qwen/Qwen2.5-0.5B-Instruct", "0.5 B", "apache-2.0"),
    "qwen2.5-1.5b": Known("Qwen/Qwen2.5-1.5B-Instruct", "1.5 B", "apache-2.0"),
    "qwen3-0.6b": Known("Qwen/Qwen3-0.6B", "0.6 B", "apache-2.0"),
    "smollm2-360m": Known("HuggingFaceTB/SmolLM2-360M-Instruct", "0.4 B", "apache-2.0"),
}


class Reference(Struct, frozen=True, kw_only=True):
    """A model that was asked for: `repo` with `revision`, or `folder`; kept under `name`."""

    name: str
    repo: str | None = None
    revision: str | None = None
    folder: Path | None = None


def parse(asked: str, kept_as: str | None = None) -> Reference:
    """Return what `NAME[@REVISION]` means. Raises `ModelError`."""
    base, revision = split(asked)
    if base in KNOWN:
        return Reference(name=_checked(kept_as or base), repo=KNOWN[base].repo, revision=revision)
    if base == TINY:
        raise ModelError("`tiny` is made on the spot: `perpetua up --model tiny`. There is nothing to pull")
    folder = Path(asked).expanduser()
    if asked and folder.is_dir():
        return Reference(name=_checked(kept_as or folder.resolve().name), folder=folder.resolve())
    if _REPOSITORY.fullmatch(base):
        return Reference(name=_checked(kept_as or folder_name(base)), repo=base, revision=revision)
    raise ModelError(
        f"{asked!r} is no model: expected one of {', '.join(KNOWN)}, a repository `owner/name`, or a folder"
    )


def split(asked: str) -> tuple[str, str | None]:
    """Return what stands before an `@`, and the revision behind it, if there is one."""
    base, _, revision = asked.partition("@")
    return base, revision or None


def folder_name(asked: str) -> str:
    """Return the name under which a model that was asked for is kept, unless another is chosen."""
    base, _ = split(asked)
    known = next((name for name, known in KNOWN.items() if known.repo == base), None)
    return known or base.replace("/", "--")


def _checked(name: str) -> str:
    if not SAFE.fullmatch(name) or name == TINY or name.startswith("tiny-"):
        raise ModelError(
            f"{name!r} cannot be a model's name: letters, digits, `.`, `_` and `-`, not beginning with "
            "`tiny-`. Choose another with --as"
        )
    return name
