"""A stand-in for the hub: its HTTP API over loopback, serving folders, with the faults that a test wants."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_LARGE = (".safetensors", ".bin")
_CHUNK = 1 << 14


@dataclass
class Repository:
    """A folder served as a repository, and what goes wrong with it."""

    folder: Path
    licence: str | None = "apache-2.0"
    commit: str = COMMIT
    gated: bool = False
    """Files only for those who have the token."""

    token: str = "hf_right"
    cut_after: int | None = None
    """Bytes of a large file after which each connection breaks."""

    cuts: int = 1_000_000
    """How many connections break so; after them none does."""

    hold_after: int | None = None
    """Bytes of a large file after which nothing comes any more, until the stand-in closes."""

    flip: str | None = None
    """A file whose bytes come altered."""

    statuses: list[int] = field(default_factory=list)
    """HTTP statuses of the next requests for large files, before they are served."""

    ignores_ranges: bool = False


class Hub:
    """Serves on a loopback port. Counts what is asked of it."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and range of each request."""

        self.sent: dict[str, int] = {}
        """Bytes sent of each file."""

        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked_for(self, file: str) -> list[str | None]:
        """The ranges of the requests for a file's bytes."""
        return [r for method, path, r in self.requests if method == "GET" and path.endswith(f"/{file}")]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            try:
                if info is not None:
                    self._info(info[1], info[2])
                elif file is not None:
                    self._file(file[1], file[3])
                else:
                    self._refuse(404, "")
            except OSError:
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def _info(self, name: str, revision: str | None) -> None:
            repository = hub.repositories.get(name)
            if repository is None:
                return self._refuse(401 if self._token() is None else 404, "RepoNotFound")
            if revision not in (None, "main", "v1", repository.commit):
                return self._refuse(404, "RevisionNotFound")
            files = sorted(path for path in repository.folder.iterdir() if path.is_file())
            body: dict[str, Any] = {
                "id": name,
                "sha": repository.commit,
                "gated": "manual" if repository.gated else False,
                "tags": [f"license:{repository.licence}"] if repository.licence else [],
                "cardData": {"license": repository.licence} if repository.licence else {},
                "siblings": [_sibling(path) for path in files],
            }
            return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, file: str) -> None:
            repository = hub.repositories[name]
            if repository.gated and self._token() != repository.token:
                return self._refuse(401 if self._token() is None else 403, "GatedRepo")
            path = repository.folder / file
            if not path.is_file():
                return self._refuse(404, "EntryNotFound")
            if file.endswith(_LARGE) and repository.statuses:
                return self._refuse(repository.statuses.pop(0), "")
            return self._bytes(repository, path)

        def _bytes(self, repository: Repository, path: Path) -> None:
            data = bytearray(path.read_bytes())
            if repository.flip == path.name:
                data[len(data) // 2] ^= 1
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            begin = int(asked[1]) if asked and not repository.ignores_ranges else 0
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", repository.commit)
            self.end_headers()
            large = path.name.endswith(_LARGE)
            for at in range(begin, len(data), _CHUNK):
                here = at - begin
                if large and repository.hold_after is not None and here >= repository.hold_after:
                    hub.released.wait(60)
                    return self._break()
                if (
                    large
                    and repository.cuts
                    and repository.cut_after is not None
                    and here >= repository.cut_after
                ):
                    repository.cuts -= 1
                    return self._break()
                piece = data[at : at + _CHUNK]
                self.wfile.write(piece)
                hub.sent[path.name] = hub.sent.get(path.name, 0) + len(piece)
            return None

        def _break(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _token(self) -> str | None:
            sent = self.headers.get("Authorization")
            return sent.removeprefix("Bearer ") if sent else None

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code} if code else {})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _sibling(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    sibling: dict[str, Any] = {"rfilename": path.name, "size": len(data)}
    if path.name.endswith(_LARGE):
        digest = hashlib.sha256(data).hexdigest()
        return sibling | {
            "blobId": "0" * 40,
            "lfs": {"sha256": digest, "size": len(data), "pointerSize": 130},
        }
    return sibling | {"blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}


@contextmanager
def hub(**repositories: Repository) -> Iterator[Hub]:
    """A stand-in with repositories `owner__name`, while the context is open."""
    running = Hub({name.replace("__", "/"): served for name, served in repositories.items()})
    try:
        yield running
    finally:
        running.close()
