"""Pulling a model: fetch, convert, check, keep. What is half done is gone on with, and never used."""

from __future__ import annotations

import errno
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from libs.models import check, needs, official
from libs.models.architecture import (
    Architecture,
    family_of,
    is_covered,
    read_architecture,
    read_config,
)
from libs.models.convert import COMPUTE_TYPES, convert
from libs.models.errors import ModelError, SourceError, TooLittle
from libs.models.hub import PART, Hub, Listing, Meter, sha256
from libs.models.manifest import CheckResult, Manifest
from libs.models.names import Reference
from libs.models.needs import Needs
from libs.models.source import Safetensors
from libs.models.store import MADE, SOURCE, Store

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MADE_WITH = ("perpetua", "ctranslate2", "transformers", "numpy", "huggingface_hub")


class Found(Struct, frozen=True, kw_only=True):
    """A model that will be pulled, before anything large is fetched."""

    name: str
    source: str
    revision: str | None
    licence: str | None
    licence_page: str | None
    family: str
    parameters: int
    compute_type: str


class Report(Meter, Protocol):
    """Is told what a pull finds and does."""

    def found(self, model: Found, needs: Needs) -> None:
        """This is the model, under this licence, and this is what it will take."""

    def step(self, text: str) -> None:
        """This is being done now."""

    def layer(self, done: int, total: int) -> None:
        """So many layers are checked."""


@dataclass(frozen=True)
class Pull:
    """What is to be pulled, how, and where to."""

    reference: Reference
    store: Store
    compute_type: str
    token: str | None
    report: Report


@dataclass(frozen=True)
class _Source:
    """A model's files, or what will be there once they are fetched."""

    folder: Path
    label: str
    revision: str | None
    licence: str | None
    licence_page: str | None
    missing: Callable[[], int]
    """Returns how many bytes are still to come."""

    weight_bytes: int
    fetch: Callable[[], None]


def default_compute_type() -> str:
    """Return how weights are kept unless chosen: bfloat16 where there is a GPU, int8 elsewhere."""
    import ctranslate2

    return "bfloat16" if ctranslate2.get_cuda_device_count() else "int8"


def pull(job: Pull) -> tuple[Manifest, bool]:
    """Return the model, and whether it was made now or was there already. Raises `ModelError`."""
    if job.compute_type not in COMPUTE_TYPES:
        raise ModelError(f"the compute type {job.compute_type!r} is none of {', '.join(COMPUTE_TYPES)}")
    try:
        return _pull(job)
    except OSError as error:
        raise _disk(error, job.store.path) from error


def _pull(job: Pull) -> tuple[Manifest, bool]:
    reference, hub, listing = job.reference, None, None
    job.store.recover(reference.name)
    if reference.repo is not None:
        hub = Hub(job.token)
        listing = hub.describe(reference.repo, reference.revision)
        there = job.store.find(reference.name)
        if there is not None and _is_same(there, listing, job.compute_type):
            return there, False
    with job.store.pulling(reference.name) as work:
        source = _remote(hub, listing, work, job.report) if hub and listing else _local(reference)
        return _make(job, source, work), True


def _is_same(manifest: Manifest, listing: Listing, compute_type: str) -> bool:
    asked = (listing.repo, listing.revision, compute_type)
    return (manifest.repo, manifest.revision, manifest.compute_type) == asked


def _disk(error: OSError, folder: Path, rest: int | None = None) -> ModelError:
    """Return the sentence for a disk that refuses; `rest`: bytes that what is left to do takes."""
    what = "the disk is full" if error.errno in _DISK_FULL else "writing failed"
    need = ""
    if rest is not None:
        need = f"; the rest takes about {needs.size(rest)}, {needs.size(needs.free(folder))} are free"
    return TooLittle(
        f"{what} ({error.strerror or error}) in {folder}{need}. What is downloaded is kept: make room and "
        "give the same command again"
    )


def _remote(hub: Hub, listing: Listing, work: Path, report: Report) -> _Source:
    """Prepare a repository: its config is fetched at once, the rest when `fetch` is called."""
    folder = work / f"{SOURCE}{listing.revision}"
    for other in work.iterdir():
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(exist_ok=True)

    def fetch() -> None:
        for file in listing.files:
            hub.fetch(listing.repo, listing.revision, file, folder, report)

    config = next(file for file in listing.files if file.name == "config.json")
    hub.fetch(listing.repo, listing.revision, config, folder, report)

    def missing() -> int:
        return listing.bytes - sum(_here(folder, file.name) for file in listing.files)

    return _Source(
        folder=folder,
        label=listing.repo,
        revision=listing.revision,
        licence=listing.licence,
        licence_page=listing.licence_page,
        missing=missing,
        weight_bytes=sum(file.size for file in listing.files if file.name.endswith(".safetensors")),
        fetch=fetch,
    )


def _here(folder: Path, name: str) -> int:
    paths = (folder / name, folder / f"{name}{PART}")
    return next((path.stat().st_size for path in paths if path.is_file()), 0)


def _local(reference: Reference) -> _Source:
    folder = reference.folder
    assert folder is not None
    read_config(folder)
    return _Source(
        folder=folder,
        label=str(folder),
        revision=None,
        licence=_licence_of(folder),
        licence_page=None,
        missing=lambda: 0,
        weight_bytes=sum(path.stat().st_size for path in Safetensors(folder).files),
        fetch=lambda: None,
    )


def _licence_of(folder: Path) -> str | None:
    """Return the licence that a folder's README names, as model cards do."""
    from huggingface_hub import ModelCard

    try:
        data: dict[str, Any] = ModelCard.load(folder / "README.md").data.to_dict()
    except (OSError, ValueError):
        return None
    return data.get("license_name") or data.get("license")


def _make(job: Pull, source: _Source, work: Path) -> Manifest:
    config = read_config(source.folder)
    architecture = read_architecture(config) if is_covered(config) else None
    if architecture is None:
        official.require_torch(config)
    need = _needs(config, architecture, source, job.compute_type)
    parameters = _parameters(architecture, source)
    job.report.found(
        Found(
            name=job.reference.name,
            source=source.label,
            revision=source.revision,
            licence=source.licence,
            licence_page=source.licence_page,
            family=family_of(config),
            parameters=parameters,
            compute_type=job.compute_type,
        ),
        need,
    )
    needs.check_disk(work, need.disk)
    made = work / MADE
    if made.exists():
        shutil.rmtree(made)
    try:
        source.fetch()
        result = _convert_and_check(job, config, architecture, source.folder, made, strict=need.strict)
        job.report.step("keeping it")
        manifest = _manifest(job, source, config, made, result, parameters, covered=architecture is not None)
        job.store.finish(made, manifest)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise _disk(error, job.store.path, source.missing() + need.kept) from error
    return manifest


def _needs(config: dict[str, Any], architecture: Architecture | None, source: _Source, kind: str) -> Needs:
    if architecture is not None:
        return needs.estimate(
            architecture.parameters, architecture.vocabulary, architecture.hidden, kind, source.missing()
        )
    vocabulary, hidden = int(config.get("vocab_size") or 0), int(config.get("hidden_size") or 0)
    parameters = _parameters(None, source)
    return needs.estimate(parameters, vocabulary, hidden, kind, source.missing(), by_torch=True)


def _parameters(architecture: Architecture | None, source: _Source) -> int:
    """Return how many weights a model has; of a family that is not covered, as many as have two bytes."""
    return architecture.parameters if architecture is not None else source.weight_bytes // 2


def _convert_and_check(
    job: Pull,
    config: dict[str, Any],
    architecture: Architecture | None,
    source: Path,
    made: Path,
    *,
    strict: bool,
) -> CheckResult:
    kind, report = job.compute_type, job.report
    if architecture is None:
        report.step("converting with CTranslate2's converter")
        official.convert_officially(source, made, kind)
        report.step("checking it against torch")
        ids = check.sample(_number(config, "vocab_size"), _number(config, "max_position_embeddings"))
        expected = official.torch_logits(source, ids, kind)[check.positions(len(ids))]
        return check.check(made, expected, ids, kind)
    convert(source, architecture, made, kind, report.step)
    report.step(f"checking its logits at {check.TOKENS} tokens")
    ids = check.sample(architecture.vocabulary, architecture.window)
    expected = check.source_logits(
        source, architecture, kind, lambda done: report.layer(done, architecture.layers)
    )
    return check.check(made, np.asarray(expected), ids, kind, strict=strict)


def _number(config: dict[str, Any], key: str) -> int:
    try:
        return int(config[key])
    except (KeyError, TypeError, ValueError):
        raise SourceError(f"config.json has no {key}") from None


def _manifest(
    job: Pull,
    source: _Source,
    config: dict[str, Any],
    made: Path,
    result: CheckResult,
    parameters: int,
    *,
    covered: bool,
) -> Manifest:
    files = {path.name: path for path in sorted(made.iterdir())}
    used = (path for path in sorted(source.folder.iterdir()) if path.is_file() and path.suffix != PART)
    return Manifest(
        name=job.reference.name,
        repo=job.reference.repo,
        folder=str(job.reference.folder) if job.reference.folder is not None else None,
        revision=source.revision,
        licence=source.licence,
        licence_page=source.licence_page,
        family=family_of(config),
        parameters=parameters,
        window=_number(config, "max_position_embeddings"),
        compute_type=job.compute_type,
        size=sum(path.stat().st_size for path in files.values()),
        files={name: sha256(path) for name, path in files.items()},
        source_files={path.name: sha256(path) for path in used if path.suffix in (".safetensors", ".json")},
        check=result,
        made_at=datetime.now(UTC),
        made_with={name: version(name) for name in _MADE_WITH} | {"python": platform.python_version()},
        converter="perpetua" if covered else "ctranslate2",
    )
