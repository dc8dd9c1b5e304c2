"""A stand-in for an OpenAI-compatible server: real HTTP, counted calls, answers as the test wants them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Raw:
    """An answer byte by byte."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Reply = Callable[[dict[str, Any]], "str | int | Raw"]
"""What a request gets: the text of the answer, an HTTP status, or an answer of any form."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """As with real servers: of five that wait to be accepted the sixth would come a second later."""


class Endpoint:
    """Serves on a port, of loopback unless told otherwise; `reply` may be exchanged while it runs."""

    def __init__(self, reply: Reply, port: int = 0, host: str = "127.0.0.1") -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        self._asking = threading.local()
        self._server = _Server((host, port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def caller(self) -> int:
        """The process id of whoever makes the request that is being answered."""
        import psutil  # a stand-in in a container has none

        port = self._asking.port
        connections = psutil.net_connections("tcp")
        return next(c.pid for c in connections if c.pid and c.laddr and c.laddr.port == port)

    def calls_about(self, text: str) -> int:
        """How many requests had a text in their prompt."""
        return sum(text in json.dumps(request) for request in list(self.requests))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": []})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                endpoint.headers.append(dict(self.headers))
                endpoint._asking.port = self.client_address[1]
                reply = endpoint.reply(body)
                time.sleep(endpoint.delay)
                if isinstance(reply, Raw):
                    return self._send_bytes(reply.status, reply.body, reply.headers)
                if isinstance(reply, int):
                    return self._send(reply, {"error": {"message": f"status {reply}"}})
                return self._send(200, completion(reply))

            def _send(self, status: int, body: object) -> None:
                self._send_bytes(status, json.dumps(body).encode(), {})

            def _send_bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def completion(text: str) -> dict[str, Any]:
    """A chat completion as servers send it."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "model": "stand-in",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


@contextmanager
def endpoint(reply: Reply | None = None, port: int = 0) -> Iterator[Endpoint]:
    """A stand-in that answers while the context is open."""
    running = Endpoint(reply or (lambda _: "A calm signal. One doubt remains."), port)
    try:
        yield running
    finally:
        running.close()
