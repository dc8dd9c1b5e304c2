"""`/metrics`, `/livez` and `/readyz` of a process, served by a thread so that a stuck event loop shows."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app

from libs.settings.urls import reached_at

STUCK_S = 20.0
"""Seconds without a turn of the event loop after which a process counts as dead."""


@dataclass
class Health:
    """Whether the process lives and does its work; the loop writes, the thread reads."""

    beat: float = 0.0
    ready: bool = False
    reason: str | None = "starting"
    detail: Callable[[], object] = dict
    blocked: Callable[[], str | None] = lambda: None
    """What keeps a process that has booted from doing its work now, if anything."""

    def live(self) -> bool:
        """Whether the event loop has turned lately."""
        return time.monotonic() - self.beat < STUCK_S

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and JSON body of `/livez` or `/readyz`."""
        if path == "/livez":
            return _answer(self.live())
        reason = self.blocked() or (None if self.ready else self.reason)
        return _answer(reason is None and self.live(), reason=reason, boot=self.detail())


def _answer(good: bool, **more: object) -> tuple[int, bytes]:
    return (200 if good else 503), msgspec.json.encode({"ok": good, **more})


_CONNECTIONS = 16
"""At once, a thread each. One more ends the oldest: who asks is answered in milliseconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], *more: Any) -> None:
        self.address_family = _family(*address)
        super().__init__(address, *more)
        self._open: deque[socket.socket] = deque()
        self._changing = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open.append(request)
            if len(self._open) > _CONNECTIONS:
                with suppress(OSError):
                    self._open.popleft().shutdown(socket.SHUT_RDWR)  # its thread closes it
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._changing, suppress(ValueError):
            self._open.remove(request)
        super().close_request(request)


def _family(host: str, port: int) -> socket.AddressFamily:
    """Return the family of what is listened on: IPv4 where a name has both; `::` takes either."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return min(family for family, *_ in found)


class _Quiet(WSGIRequestHandler):
    def handle(self) -> None:
        with suppress(ConnectionError):  # who is gone needs no answer
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass


class HealthServer:
    """Serves a process's health and metrics on a port of its own."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self._host = host.strip("[]")
        self._server = make_server(self._host, port, _app(registry, health), _Server, _Quiet)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_port)

    @property
    def serves(self) -> bool:
        """Whether its thread still runs: nothing but an error ends it before `close`."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop serving."""
        self._closing = True
        with suppress(OSError):  # a last connection, for which the thread wakes
            socket.create_connection((reached_at(self._host), self.port), timeout=1).close()
        self._thread.join(timeout=2)
        self._server.server_close()

    def _serve(self) -> None:
        """Wait for connections: `serve_forever` would look twice a second whether it is to end."""
        while not self._closing:
            self._server.handle_request()


def _app(registry: CollectorRegistry, health: Health) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        if path not in ("/livez", "/readyz"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /livez, /readyz\n"]
        status, body = health.answer(path)
        start_response(
            "200 OK" if status == 200 else "503 Unavailable", [("Content-Type", "application/json")]
        )
        return [body]

    return app
