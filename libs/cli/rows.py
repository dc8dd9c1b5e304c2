"""The rows of a file of personas: JSON lines, a JSON array, or CSV with a header. Pure.

Every row is checked before any is sent. A row's parent may stand anywhere in the file, or be in the swarm.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from libs.contracts.personas import ImportedPersona, PolicyRequest

_POLICY = "policy."
_KNOWN = frozenset(field.name for field in msgspec.structs.fields(ImportedPersona))
_KNOWN_POLICY = frozenset(field.name for field in msgspec.structs.fields(PolicyRequest))
_COLUMNS = sorted(_KNOWN - {"policy"}) + [_POLICY + name for name in sorted(_KNOWN_POLICY)]


@dataclass(frozen=True, slots=True)
class Row:
    """A persona and the line of the file on which it begins."""

    line: int
    persona: ImportedPersona


@dataclass(frozen=True, slots=True)
class BadRow:
    """What is wrong with the row on a line."""

    line: int
    error: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.error}"


def read(text: str) -> tuple[list[Row], list[BadRow]]:
    """Return the rows of a file, parents before their children, and what is wrong with the others."""
    text = text.removeprefix("\ufeff")
    rows: list[Row] = []
    bad: list[BadRow] = []
    for line, found in _found(text):
        if isinstance(found, str):
            bad.append(BadRow(line, found))
        else:
            try:
                rows.append(Row(line, _persona(*found)))
            except (msgspec.ValidationError, _Unfit) as error:
                bad.append(BadRow(line, _sentence(str(error))))
    bad += doubles(rows)
    placed, circles = ordered(rows)
    wrong = {one.line: one for one in [*circles, *bad]}
    return [row for row in placed if row.line not in wrong], [wrong[line] for line in sorted(wrong)]


class _Unfit(Exception):
    """A row is no description of a persona."""


_Found = Iterator[tuple[int, "tuple[Any, bool] | str"]]
"""Line by line a value, with whether its types are to be taken strictly, or what is wrong there."""


def _found(text: str) -> _Found:
    begin = text.lstrip()[:1]
    if begin == "[":
        return _array(text)
    return _lines(text) if begin in ("{", "") else _csv(text)


def _lines(text: str) -> _Found:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, (json.loads(line), True)
        except (ValueError, RecursionError) as error:
            yield number, f"not valid JSON: {_reason(error)}"


def _array(text: str) -> _Found:
    """Yield the elements of an array, each with its line; what is broken ends it."""
    decode, at, line = json.JSONDecoder().raw_decode, text.index("[") + 1, 1
    counted = 0
    first = True
    while True:
        at = _behind_space(text, at)
        if not first and text[at : at + 1] == ",":
            at = _behind_space(text, at + 1)
        elif not first and text[at : at + 1] != "]":
            yield _line_at(text, at), "not valid JSON: expected `,` or `]` behind a persona"
            return
        elif text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                yield _line_at(text, _behind_space(text, at + 1)), "not valid JSON: something follows its end"
            return
        line, counted, first = line + text.count("\n", counted, at), at, False
        try:
            value, at = decode(text, at)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {_reason(error)}"
            return
        yield line, (value, True)


def _csv(text: str) -> _Found:
    """Yield the rows of a CSV file; empty cells are absent, `policy.` columns make the policy."""
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    line = 1
    try:
        columns = list(reader.fieldnames or [])
        for name in columns:
            if name not in _KNOWN - {"policy"} and name.removeprefix(_POLICY) not in _KNOWN_POLICY:
                yield 1, f"unknown column `{name}`; there are {', '.join(_COLUMNS)}"
                return
        for row in reader:
            begin, line = line + 1, reader.line_num
            if "" in row or None in row.values():
                yield begin, f"expected {len(columns)} columns as in the first line"
                continue
            value: dict[str, Any] = {k: v for k, v in row.items() if v != "" and not k.startswith(_POLICY)}
            policy = {k.removeprefix(_POLICY): v for k, v in row.items() if v != "" and k.startswith(_POLICY)}
            yield begin, (value | ({"policy": policy} if policy else {}), False)
    except csv.Error as error:
        yield line + 1, f"not valid CSV: {error}"


def _persona(value: Any, strict: bool) -> ImportedPersona:
    if not isinstance(value, dict):
        raise _Unfit("a persona is an object with persona_id, name, role and charter")
    _check_known(value, _KNOWN)
    if isinstance(value.get("policy"), dict):
        _check_known(value["policy"], _KNOWN_POLICY)
    persona = msgspec.convert(value, ImportedPersona, strict=strict)
    try:
        msgspec.json.encode(persona)
    except UnicodeEncodeError:
        raise _Unfit("half of a surrogate pair is no character") from None
    return persona


def _check_known(value: dict[str, Any], known: Iterable[str]) -> None:
    unknown = [name for name in value if name not in known]
    if unknown:
        raise _Unfit(f"unknown field `{unknown[0]}`; there are {', '.join(sorted(known))}")


def doubles(rows: list[Row]) -> Iterator[BadRow]:
    """Yield the rows whose id an earlier one has."""
    first: dict[str, int] = {}
    for row in rows:
        name = row.persona.persona_id
        if name in first:
            yield BadRow(row.line, f"persona_id `{name}` stands on line {first[name]} already")
        first.setdefault(name, row.line)


def ordered(rows: list[Row]) -> tuple[list[Row], list[BadRow]]:
    """Return rows breadth first, and those that descend from themselves."""
    named = {row.persona.persona_id for row in rows}
    children: dict[str, list[Row]] = defaultdict(list)
    found: list[Row] = []
    for row in rows:
        parent = row.persona.parent_id
        if parent is not None and parent in named:
            children[parent].append(row)
        else:
            found.append(row)
    for row in found:
        found.extend(children.pop(row.persona.persona_id, ()))
    return found, [
        BadRow(row.line, f"persona `{row.persona.persona_id}` descends from itself")
        for left in children.values()
        for row in left
    ]


def _behind_space(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


def _line_at(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return str(error)


def _sentence(said: str) -> str:
    """Return msgspec's message with the field in front."""
    message, _, field = said.partition(" - at `$.")
    return f"{field.rstrip('`')}: {message}" if field else message
