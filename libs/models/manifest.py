"""What is kept about a model beside its files."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class CheckResult(Struct, frozen=True, kw_only=True):
    """How far a conversion is from its source, in standard deviations of the source's logits."""

    tokens: int
    positions: int
    computed_in: str
    largest: float
    root_mean_square: float
    bound: float
    bound_on: str
    same_first_choice: float
    """Share of positions whose likeliest next token is the same."""


class Manifest(Struct, frozen=True, kw_only=True):
    """Where a model is from and how it was made. Sizes in bytes, checksums SHA-256 by file name."""

    name: str
    repo: str | None
    """The repository; null for one made from a folder."""

    folder: str | None
    revision: str | None
    """The commit."""

    licence: str | None
    licence_page: str | None
    family: str
    parameters: int
    window: int
    """Tokens of context, prompt and answer together."""

    compute_type: str
    size: int
    files: dict[str, str]
    source_files: dict[str, str]
    check: CheckResult
    made_at: datetime
    made_with: dict[str, str]
    """Versions of what made it."""

    converter: str
    """`perpetua`, or `ctranslate2` where the official converter did it."""


class Unfinished(Struct, frozen=True, kw_only=True):
    """A pull that did not end: what it left, in bytes."""

    name: str
    size: int
