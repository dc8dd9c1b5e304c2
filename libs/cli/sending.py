"""`perpetua send`: one item, or one a line of standard input as lines come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO
from uuid import uuid4

from libs.cli import output
from libs.cli.api import Api, segment
from libs.cli.errors import CliError
from libs.cli.patience import patiently
from libs.contracts.limits import CONTENT_LENGTH
from libs.runtime.plain import plain
from libs.supervisor.text import style

_SAY_EVERY_S = 0.2
_LINE_BYTES = 8 * CONTENT_LENGTH
"""More than any content has in UTF-8; what is longer is passed over in pieces."""


@dataclass(frozen=True)
class Target:
    """A persona, or every persona of a swarm."""

    identifier: str
    is_swarm: bool

    @property
    def path(self) -> str:
        """Where the API takes what is sent there."""
        kind = "swarms" if self.is_swarm else "personas"
        return f"/v1/swarm/{kind}/{segment(self.identifier)}/inbox"

    def __str__(self) -> str:
        return f"swarm {self.identifier}" if self.is_swarm else self.identifier


def send(api: Api, to: Target, content: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Send one item and return the answer."""
    answer: dict[str, Any] = api.post(to.path, {"content": content, "id": str(uuid4()), **fields})
    return answer


def send_lines(api: Api, to: Target, lines: BinaryIO, fields: dict[str, Any], *, as_json: bool) -> int:
    """Send each line that is not empty as it comes, in order; return the exit status.

    A line that is too long is named, and the others go on. While the gateway is away, or an inbox full, it
    waits; an item whose outcome is unknown is sent again under its id, so that it is there once. Raises
    `CliError` where an item is refused, or nobody answers for a minute.
    """
    sent = too_long = 0
    with _counting() as show:
        for number, content in _read(lines):
            if len(content) > CONTENT_LENGTH:
                too_long += 1
                text = f"line {number} is not sent: it is longer than {CONTENT_LENGTH} characters"
                print(style(text, "red"), file=sys.stderr)
                continue
            try:
                body = {"content": content, "id": str(uuid4()), **fields}
                answer = patiently(partial(api.post, to.path, body))
            except CliError as error:
                raise CliError(f"line {number}: {error} ({sent} sent before it)") from None
            sent += 1
            if as_json:
                output.print_json_line({"line": number, **answer})
            show(sent)
    if not as_json:
        print(f"{sent} sent to {plain(str(to))}" + (f", {too_long} too long" if too_long else ""))
    return 1 if too_long else 0


def _read(lines: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not empty; of a very long one its end."""
    number = 0
    while raw := lines.readline(_LINE_BYTES):
        number += 1
        begin = raw
        while raw and len(raw) == _LINE_BYTES and not raw.endswith(b"\n"):
            raw = lines.readline(_LINE_BYTES)
        content = begin.decode(errors="backslashreplace").rstrip("\r\n")
        if content.strip():
            yield number, content


@contextmanager
def _counting() -> Iterator[Callable[[int], None]]:
    """How many are sent, on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda sent: None
        return
    said_at = 0.0

    def show(sent: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= _SAY_EVERY_S:
            said_at = time.monotonic()
            print(f"\r{sent} sent ", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
