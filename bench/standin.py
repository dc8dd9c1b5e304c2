"""A stand-in for an OpenAI-compatible server that costs next to nothing: it answers after a fixed latency.

    python -m bench.standin [--port 0] [--latency-ms 50] [--words 40] [--slots 0]

It prints its base URL and serves until it is ended. Who is asked for a decision responds to whatever it is.
With `--slots` it thinks of so many requests at once, and the others wait. A raw asyncio protocol, since a
server of a web framework would take as much processor time as what is measured. `GET /count` answers how
many completions it has sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast
from urllib.request import urlopen

import uvloop

_HEAD_ENDS = b"\r\n\r\n"
_LENGTH = b"content-length:"
_DECIDE = b"will_respond"


class Slots:
    """Has each request take `latency` seconds, so many at once; 0: all."""

    def __init__(self, latency: float, slots: int) -> None:
        self._latency = latency
        self._free = slots or sys.maxsize
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, done: Callable[[], None]) -> None:
        """Call `done` once the request was thought of."""
        if not self._free:
            return self._waiting.append(done)
        self._free -= 1
        asyncio.get_running_loop().call_later(self._latency, self._end, done)
        return None

    def _end(self, done: Callable[[], None]) -> None:
        self._free += 1
        if self._waiting:
            self.take(self._waiting.popleft())
        done()


class StandIn(asyncio.Protocol):
    """One connection: requests may follow each other on it."""

    sent = 0

    def __init__(self, slots: Slots, answer: bytes, decision: bytes) -> None:
        self._slots = slots
        self._answer = answer
        self._decision = decision
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(_HEAD_ENDS)) >= 0:
            end = head + len(_HEAD_ENDS) + _body_length(bytes(self._buffer[:head]))
            if len(self._buffer) < end:
                return
            is_get = self._buffer.startswith(b"GET")
            answer = self._decision if _DECIDE in self._buffer[:end] else self._answer
            del self._buffer[:end]
            if is_get:
                self._write(_response(json.dumps({"data": [], "count": StandIn.sent}).encode()))
            else:
                self._slots.take(lambda answer=answer: self._complete(answer))  # type: ignore[misc]

    def _complete(self, answer: bytes) -> None:
        StandIn.sent += 1
        self._write(answer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _body_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(_LENGTH):
            return int(line[len(_LENGTH) :])
    return 0


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _completion(words: int, text: str = "") -> bytes:
    text = text or " ".join(["A calm signal, and one doubt that remains."] * max(words // 8, 1))
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 300, "completion_tokens": words, "total_tokens": 300 + words}
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "model": "stand-in",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
    ).encode()


async def serve(port: int, latency: float, words: int, slots: int) -> None:
    """Serve until cancelled."""
    answer = _response(_completion(words))
    decision = _response(_completion(words, '{"will_respond": true, "response": "I have heard it."}'))
    loop, shared = asyncio.get_running_loop(), Slots(latency, slots)
    server = await loop.create_server(
        lambda: StandIn(shared, answer, decision), "127.0.0.1", port, backlog=1024
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def standin(latency_ms: float = 50.0, words: int = 40, slots: int = 0) -> Iterator[str]:
    """Yield the base URL of a stand-in in a process of its own."""
    options = ["--latency-ms", str(latency_ms), "--words", str(words), "--slots", str(slots)]
    with serving("bench.standin", *options) as url:
        yield url


@contextmanager
def serving(module: str, *options: str) -> Iterator[str]:
    """Yield the base URL that a module says first when it runs in a process of its own."""
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def count(base_url: str) -> int:
    """Return how many completions a stand-in has sent."""
    with urlopen(f"{base_url}/count", timeout=5) as response:
        return int(json.load(response)["count"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--slots", type=int, default=0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.latency_ms / 1000, options.words, options.slots))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
