"""The hub: what a repository holds, and its files, resumed where a connection or a process ended.

huggingface_hub speaks to the hub. Its own `snapshot_download` begins a file anew after a kill, and compares
no checksum: so each file is written to `NAME.part`, continued by range, and renamed once its checksum is
right.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx2
from huggingface_hub import HfApi, get_session, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status
from msgspec import Struct

from libs.models import durable
from libs.models.convert import OTHER_FILES, TOKENIZER_FILES
from libs.models.errors import HubError, SourceError
from libs.models.source import INDEX, weight_files

T = TypeVar("T")

TRIES = 5
"""Attempts without a new byte before a download is given up."""

_WHOLE_TRIES = 2
_PAUSE_S = 1.0
_ANSWER_WITHIN_S = 30.0
_SERVER_FAULTS = frozenset({408, 429, 500, 502, 503, 504})
_PARTIAL = 206
_PIECE = 1 << 20
PART = ".part"


class RemoteFile(Struct, frozen=True, kw_only=True):
    """A file of a repository. `sha256` is known of large files, `git_sha1` of small ones."""

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


class Listing(Struct, frozen=True, kw_only=True):
    """A repository at one commit, with the files that a conversion needs."""

    repo: str
    revision: str
    licence: str | None
    licence_page: str
    gated: bool
    parameters: int | None
    files: list[RemoteFile]

    @property
    def bytes(self) -> int:
        """The size of all of them."""
        return sum(file.size for file in self.files)


class Meter(Protocol):
    """Is told how a download goes on."""

    def at(self, name: str, done: int, total: int) -> None:
        """So many bytes of a file are here."""

    def compared(self, name: str, done: int, total: int) -> None:
        """So many bytes of a file that is here are compared with its checksum."""


class Hub:
    """The hub, asked with a token where there is one: the one given, else that of HF_TOKEN or a login."""

    def __init__(self, token: str | None = None) -> None:
        self._token = token or get_token()
        self._api = HfApi(token=self._token or False, library_name="perpetua")

    def describe(self, repo: str, revision: str | None) -> Listing:
        """Return what a repository holds at a revision, the main branch unless given. Raises `HubError`."""

        def ask() -> Any:
            return self._api.model_info(
                repo, revision=revision, files_metadata=True, timeout=_ANSWER_WITHIN_S
            )

        info = self._patiently(ask, repo, revision)
        card = info.card_data.to_dict() if info.card_data is not None else {}
        tagged = (tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:"))
        licence = card.get("license_name") or card.get("license") or next(tagged, None)
        page = f"{self._api.endpoint}/{repo}"
        if info.gated and self._token is None:
            raise HubError(self._gated(repo))
        files = [_remote(sibling) for sibling in info.siblings or ()]
        return Listing(
            repo=repo,
            revision=str(info.sha),
            licence=str(licence) if licence else None,
            licence_page=str(card.get("license_link") or page),
            gated=bool(info.gated),
            parameters=info.safetensors.total if info.safetensors is not None else None,
            files=self._needed(repo, str(info.sha), files),
        )

    def _needed(self, repo: str, revision: str, files: list[RemoteFile]) -> list[RemoteFile]:
        """Return the files of a conversion: no pickle, no second format, nothing in folders."""
        here = {file.name: file for file in files if "/" not in file.name}
        if "config.json" not in here:
            raise SourceError(f"{repo} has no config.json: it is not a model in Hugging Face's layout")
        index = self._read(repo, revision, here[INDEX]) if INDEX in here else None
        try:
            weights = weight_files(here, index)
        except SourceError as error:
            raise SourceError(f"{repo}: {error}") from error
        small = ("config.json", *TOKENIZER_FILES, *OTHER_FILES, INDEX)
        return [here[name] for name in small if name in here] + [here[name] for name in weights]

    def _read(self, repo: str, revision: str, file: RemoteFile) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            self.fetch(repo, revision, file, Path(folder), _NoMeter())
            return (Path(folder) / file.name).read_bytes()

    def fetch(self, repo: str, revision: str, file: RemoteFile, folder: Path, meter: Meter) -> None:
        """Bring a file into a folder, from where an earlier attempt ended.

        What an earlier one left is compared with its checksum, too: a disk may have lost what it was given.
        Raises `HubError`, or an `OSError` of the disk.
        """
        target, part = folder / file.name, folder / f"{file.name}{PART}"
        if target.is_file():
            if _is_right(target, file, meter):
                return meter.at(file.name, file.size, file.size)
            target.unlink()
        for _ in range(_WHOLE_TRIES):
            self._download(repo, revision, file, part, meter)
            if _is_right(part, file, meter):
                durable.sync(part)
                return durable.rename(part, target)
            part.unlink()
        raise HubError(
            f"{file.name} of {repo} has another checksum than the hub says, also when fetched anew. "
            f"Something between here and {self._api.endpoint} alters it: try another network, or later"
        )

    def _download(self, repo: str, revision: str, file: RemoteFile, part: Path, meter: Meter) -> None:
        """Fill `part` up to the file's size, over as many connections as it takes."""
        url = hf_hub_url(repo, file.name, revision=revision, endpoint=self._api.endpoint)

        def attempt() -> None:
            before = part.stat().st_size if part.exists() else 0
            try:
                self._stream(url, file, part, meter)
            except (httpx2.TransportError, OSError) as error:
                raise _Cut(error, progressed=part.exists() and part.stat().st_size > before) from error

        self._patiently(attempt, repo, revision)

    def _stream(self, url: str, file: RemoteFile, part: Path, meter: Meter) -> None:
        """Write what one connection brings. Raises `httpx2.TransportError` where it ends too early."""
        done = part.stat().st_size if part.exists() else 0
        if done > file.size:
            part.unlink()
            done = 0
        headers = {"accept-encoding": "identity"} | ({"range": f"bytes={done}-"} if done else {})
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        meter.at(file.name, done, file.size)
        if done == file.size > 0:
            return
        with get_session().stream("GET", url, headers=headers, timeout=_ANSWER_WITHIN_S) as response:
            hf_raise_for_status(response)
            if response.status_code != _PARTIAL:
                done = 0
            with part.open("ab" if done else "wb", buffering=0) as out:
                for piece in response.iter_raw():
                    done += out.write(piece)
                    meter.at(file.name, min(done, file.size), file.size)
                    if done > file.size:
                        break
        if done < file.size:
            raise httpx2.ReadError(f"{file.name} ended after {done} of {file.size} bytes")

    def _patiently(self, do: Callable[[], T], repo: str, revision: str | None) -> T:
        """Do something again while the network or the server fails.

        Raises `HubError`, or an `OSError` of the disk as it is.
        """
        tries = 0
        while True:
            try:
                return do()
            except (_Cut, httpx2.TransportError, OSError, ValueError, KeyError) as error:
                cause = error.cause if isinstance(error, _Cut) else error
                tries = 1 if isinstance(error, _Cut) and error.progressed else tries + 1
                if not _may_pass(cause) or tries >= TRIES:
                    raise self._sentence(cause, repo, revision) from error
                time.sleep(_PAUSE_S)

    def _sentence(self, error: Exception, repo: str, revision: str | None) -> Exception:
        """Return what an error means to a user; one of the disk stays as it is, for the pull to say."""
        at = self._api.endpoint
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if isinstance(error, GatedRepoError):
            return HubError(self._gated(repo))
        if isinstance(error, RevisionNotFoundError):
            return HubError(
                f"{repo} has no revision {revision!r}: give a branch, a tag or a commit after the @"
            )
        if isinstance(error, RepositoryNotFoundError):
            refused = (
                "or this token may not see it"
                if self._token
                else "or it is private: give HF_TOKEN or --token"
            )
            return HubError(f"there is no {repo} at {at}, {refused}. Check the spelling")
        if status in (401, 403):
            return HubError(f"{at} refuses the token (HTTP {status}). Give another with HF_TOKEN or --token")
        if status is not None:
            return HubError(f"{at} answers HTTP {status} for {repo}. Try later: what is downloaded is kept")
        if isinstance(error, OSError) and error.errno is not None:
            return error
        if isinstance(error, OfflineModeIsEnabled):
            return HubError("HF_HUB_OFFLINE forbids every download. Unset it, or pull from a local folder")
        if isinstance(error, (ValueError, KeyError)):
            return HubError(f"what answers at {at} is no hub ({error!r}). Is HF_ENDPOINT right?")
        return HubError(
            f"{at} cannot be reached, or the connection breaks off ({error or type(error).__name__}). What "
            "is downloaded is kept: the same command goes on from there"
        )

    def _gated(self, repo: str) -> str:
        page = f"{self._api.endpoint}/{repo}"
        if self._token is None:
            return (
                f"{repo} is gated: accept its licence at {page}, then give a token with HF_TOKEN or --token"
            )
        return f"{repo} is gated, and this token's account has no access: accept its licence at {page}"


class _Cut(Exception):
    """A download that broke off, and whether it brought anything."""

    def __init__(self, cause: Exception, progressed: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.progressed = progressed


class _NoMeter:
    def at(self, name: str, done: int, total: int) -> None:
        pass

    def compared(self, name: str, done: int, total: int) -> None:
        pass


def _may_pass(error: Exception) -> bool:
    """Whether another attempt can help."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _SERVER_FAULTS
    if isinstance(error, httpx2.TransportError):
        return not isinstance(error, httpx2.UnsupportedProtocol)
    return False


def _remote(sibling: Any) -> RemoteFile:
    large = sibling.lfs
    return RemoteFile(
        name=sibling.rfilename,
        size=int(large.size if large is not None else sibling.size or 0),
        sha256=large.sha256 if large is not None else None,
        git_sha1=sibling.blob_id if large is None else None,
    )


def _is_right(path: Path, file: RemoteFile, meter: Meter) -> bool:
    """Whether a file is the one the hub announced: by SHA-256, or as git names small files."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is not None:
        return sha256(path, lambda done: meter.compared(file.name, done, file.size)) == file.sha256
    if file.git_sha1 is not None:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        digest.update(path.read_bytes())
        return digest.hexdigest() == file.git_sha1
    return True


def sha256(path: Path, step: Callable[[int], None] = lambda _: None) -> str:
    """Return a file's SHA-256 in hexadecimal. `step` is told, each megabyte, how much is read."""
    digest, piece, done = hashlib.sha256(), memoryview(bytearray(_PIECE)), 0
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(piece):
            digest.update(piece[:read])
            done += read
            step(done)
    return digest.hexdigest()
