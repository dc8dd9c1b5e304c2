"""`perpetua personas import`: a file's personas, sent in batches; whoever is there already stays as it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from libs.cli import output
from libs.cli.api import Api
from libs.cli.bar import progress
from libs.cli.errors import CliError
from libs.cli.patience import patiently
from libs.cli.rows import BadRow, Row, read
from libs.contracts.limits import IMPORTED_AT_ONCE
from libs.runtime.plain import plain
from libs.supervisor.text import style

IMPORT_PATH = "/v1/swarm/import"
_BATCH_BYTES = 256 * 1024
_SHOWN_MOST = 20


@dataclass
class Summary:
    """What an import has done so far; `rows` counts what the file holds."""

    file: str
    rows: int = 0
    created: int = 0
    existing: int = 0
    invalid: list[BadRow] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    """`line`, `persona_id`, `status` and `detail` of each."""

    unsent: int = 0
    error: str | None = None
    """Why it ended before everything was sent."""

    seconds: float = 0.0


def import_file(api: Api, file: Path, *, as_json: bool) -> int:
    """Import a file and say what came of it; the exit status is 0 where every row is in the swarm now."""
    began = time.monotonic()
    summary = Summary(file=str(file))
    rows, summary.invalid = read(text_of(file))
    summary.rows = len(rows) + len(summary.invalid)
    if not summary.rows:
        raise CliError(f"there is no persona in {file}")
    if not summary.invalid:
        _send(api, rows, summary)
    summary.seconds = round(time.monotonic() - began, 3)
    if as_json:
        output.print_json(msgspec.to_builtins(summary))
    else:
        _show(summary)
    return 1 if summary.invalid or summary.refused or summary.unsent else 0


def text_of(file: Path) -> str:
    """Return what a file says, or standard input where it is `-`. Raises `CliError` where it is not UTF-8."""
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CliError(f"{file}, line {line}: not UTF-8 ({error.reason})") from None


def _send(api: Api, rows: list[Row], summary: Summary) -> None:
    """Send everything, one batch after another, since parents go before their children."""
    summary.unsent = len(rows)
    with progress("personas", len(rows)) as bar:
        try:
            for batch, body in batches(rows):
                answer = patiently(partial(api.post, IMPORT_PATH, body))
                summary.created += answer["created"]
                summary.existing += answer["existing"]
                summary.refused += [_located(batch, one) for one in answer["refused"]]
                summary.unsent -= len(batch)
                bar.show(len(rows) - summary.unsent)
        except KeyboardInterrupt:
            summary.error = "interrupted"
        except CliError as error:
            summary.error = str(error)


def batches(rows: list[Row]) -> Iterator[tuple[list[Row], bytes]]:
    """Yield batches within the bounds of a request, each with its body."""
    batch: list[Row] = []
    encoded: list[bytes] = []
    weight = 0
    for row in rows:
        one = msgspec.json.encode(row.persona)
        if batch and (len(batch) == IMPORTED_AT_ONCE or weight + len(one) > _BATCH_BYTES):
            yield batch, _body(encoded)
            batch, encoded, weight = [], [], 0
        batch.append(row)
        encoded.append(one)
        weight += len(one)
    if batch:
        yield batch, _body(encoded)


def _body(encoded: list[bytes]) -> bytes:
    return b'{"personas":[' + b",".join(encoded) + b"]}"


def _located(batch: list[Row], refused: dict[str, Any]) -> dict[str, Any]:
    return {"line": batch[refused.pop("index")].line} | refused


def _show(summary: Summary) -> None:
    wrong = [str(one) for one in summary.invalid]
    wrong += [f"line {one['line']}: {one['detail']}" for one in sorted(summary.refused, key=_line)]
    for text in wrong[:_SHOWN_MOST]:
        print(style(plain(text), "red"), file=sys.stderr)
    if len(wrong) > _SHOWN_MOST:
        print(f"and {len(wrong) - _SHOWN_MOST} more lines; --json shows all", file=sys.stderr)
    if summary.error is not None:
        print(style(plain(summary.error), "red"), file=sys.stderr)
    if summary.invalid:
        print(f"nothing was sent: {len(summary.invalid)} of {summary.rows} rows are wrong", file=sys.stderr)
        return
    parts = [f"{summary.created} created", f"{summary.existing} were there already"]
    parts += [f"{len(summary.refused)} refused"] if summary.refused else []
    parts += [f"{summary.unsent} not sent; run it again to go on"] if summary.unsent else []
    print(f"{', '.join(parts)} ({summary.seconds:.1f} s)")


def _line(refused: dict[str, Any]) -> int:
    line: int = refused["line"]
    return line
