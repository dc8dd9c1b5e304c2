"""A swarm in a file: personas as a tree, whom they wait for, and what they are sent first. Pure.

Everything is checked before anything is sent; what is wrong is named by its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Struct, structs

from libs.cli.rows import BadRow, Row, doubles, ordered
from libs.cli.yaml_lines import NotYaml, Part, parse
from libs.contracts.inbox import CHAT, SendRequest
from libs.contracts.limits import (
    Charter,
    Content,
    Domain,
    Identifier,
    Mentions,
    Name,
    Priority,
    Role,
    SourceId,
)
from libs.contracts.personas import Dependencies, ImportedPersona, PolicyRequest


class _Seed(Struct, kw_only=True):
    content: Content
    id: Name | None = None
    source: SourceId = ""
    domain: Domain = CHAT
    priority: Priority | None = None
    mentions: Mentions = []


class _Persona(Struct, kw_only=True):
    id: Identifier
    name: Name | None = None
    role: Role
    charter: Charter
    parent: Identifier | None = None
    policy: PolicyRequest | None = None
    waiting_for: Dependencies | None = None
    inbox: list[Content | _Seed] = []


class _Head(Struct, kw_only=True):
    swarm: Identifier
    complete: bool = False


_PLAIN_SCALARS = ("got `bool`", "got `int`", "got `float`", "got `date`", "got `datetime`")
"""How msgspec ends what it says of what YAML takes for no text unless it stands in quotes."""

_CHILDREN = "children"
_PERSONAS = "personas"


def _names(kind: type[Struct], *more: str) -> tuple[str, ...]:
    return (*(one.name for one in structs.fields(kind)), *more)


_HEAD = _names(_Head, _PERSONAS)
_PERSONA = _names(_Persona, _CHILDREN)
_POLICY = _names(PolicyRequest)
_SEED = _names(_Seed)


@dataclass(frozen=True)
class Seed:
    """What a persona is sent once; its id is the same however often it is read."""

    line: int
    persona_id: str
    request: SendRequest

    @property
    def key(self) -> tuple[str, str]:
        """Persona and item, by which what was sent is known."""
        return self.persona_id, str(self.request.id)


@dataclass(frozen=True)
class Described:
    """A persona of the file."""

    row: Row
    waiting_for: list[str] | None
    """Sorted; None where the file says nothing about it."""

    seeds: list[Seed] = field(default_factory=list)


@dataclass(frozen=True)
class SwarmFile:
    """A file that makes sense in itself; parents come before their children."""

    swarm: str
    complete: bool
    """Whether the file says that it names every persona of the swarm."""

    personas: list[Described]


def read(text: str) -> tuple[SwarmFile | None, list[BadRow]]:
    """Return what a file describes, or, sorted by line, all that is wrong with it."""
    reading = _Reading()
    try:
        head, described = reading.whole(text)
    except NotYaml as error:
        return None, [BadRow(error.line, error.reason)]
    rows = [one.row for one in described]
    placed, circles = ordered(rows)
    bad = reading.bad + [BadRow(one.line, _double(one.error)) for one in doubles(rows)]
    bad += [BadRow(one.line, f"{one.error}; leave out one `parent` of the circle") for one in circles]
    if not bad:
        bad += cycle(described, {})
    if bad or head is None:
        return None, sorted(set(bad), key=lambda one: (one.line, one.error))
    by_id = {one.row.persona.persona_id: one for one in described}
    return SwarmFile(head.swarm, head.complete, [by_id[row.persona.persona_id] for row in placed]), []


def cycle(described: Iterable[Described], there: Mapping[str, list[str]]) -> list[BadRow]:
    """Return the circle of those who would wait for each other, where there is one.

    `there` says for whom personas wait now; what the file says of one stands instead.
    """
    lines = {one.row.persona.persona_id: one.row.line for one in described}
    said = {one.row.persona.persona_id: one.waiting_for for one in described if one.waiting_for is not None}
    try:
        TopologicalSorter({**there, **said}).prepare()
    except CycleError as error:
        found: list[str] = error.args[1][::-1]  # it names each after the one who waits for it
        begin = next((name for name in found if name in said), found[0])
        names = " → ".join(found)
        text = f"personas would wait for each other: {names}; take one out of a `waiting_for`"
        return [BadRow(lines.get(begin, 1), text)]
    return []


class _Reading:
    """Reads one file, and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.bad: list[BadRow] = []
        self._seen: set[int] = set()

    def whole(self, text: str) -> tuple[_Head | None, list[Described]]:
        """Return the head and the personas as they stand in the file. Raises `NotYaml`."""
        root = parse(text)
        fields = root.fields() if root is not None else None
        if root is None or fields is None:
            raise NotYaml(1, "a swarm is a mapping with `swarm` and `personas`")
        self._known(fields, _HEAD)
        head = self._converted(root, _Head)
        found = fields.get(_PERSONAS)
        if found is None:
            raise NotYaml(root.line, "`personas` is missing: the list of those that the swarm has")
        swarm = head.swarm if head is not None else "_"
        described = list(self._personas(*found, swarm))
        if not described and not self.bad:
            raise NotYaml(found[0], "there is no persona in `personas`")
        return head, described

    def _personas(self, line: int, listed: Part, swarm: str) -> Iterator[Described]:
        """Yield a list's personas and, behind each, those below it."""
        left: list[tuple[int, Part, str | None, bool]] = [(line, listed, None, True)]
        while left:
            at, part, parent, is_list = left.pop()
            if is_list:
                items = part.items()
                if items is None:
                    self.bad.append(BadRow(at, "expected a list of personas: each begins with `- id:`"))
                left += [(one.line, one, parent, False) for one in reversed(items or [])]
                continue
            fields = part.fields()
            if fields is None:
                self.bad.append(BadRow(at, "a persona is a mapping with `id`, `role` and `charter`"))
                continue
            if part.identity in self._seen:
                self.bad.append(BadRow(at, "an alias names a persona that stands elsewhere"))
                continue
            self._seen.add(part.identity)
            described = self._persona(part, fields, parent, swarm)
            if described is not None:
                yield described
            if _CHILDREN in fields:
                under = described.row.persona.persona_id if described is not None else "_"
                left.append((*fields[_CHILDREN], under, True))

    def _persona(
        self, part: Part, fields: dict[str, tuple[int, Part]], parent: str | None, swarm: str
    ) -> Described | None:
        self._known(fields, _PERSONA)
        if "policy" in fields:
            self._known(fields["policy"][1].fields() or {}, _POLICY)
        for one in fields["inbox"][1].items() or [] if "inbox" in fields else []:
            self._known(one.fields() or {}, _SEED)
        found = self._converted(part, _Persona)
        if found is None:
            return None
        if parent is not None and found.parent is not None:
            self.bad.append(BadRow(fields["parent"][0], f"it stands under `{parent}`; leave out `parent`"))
        persona = ImportedPersona(
            persona_id=found.id,
            name=found.name if found.name is not None else found.id,
            role=found.role,
            charter=self._ended(found.charter, part.line_of("$.charter")),
            swarm_id=swarm,
            parent_id=parent if parent is not None else found.parent,
            policy=found.policy,
        )
        waits = sorted(set(found.waiting_for)) if found.waiting_for is not None else None
        seeds = list(self._seeds(part, found))
        return Described(Row(part.line, persona), waits, seeds)

    def _seeds(self, part: Part, found: _Persona) -> Iterator[Seed]:
        first: dict[str, int] = {}
        for index, given in enumerate(found.inbox):
            one = given if isinstance(given, _Seed) else _Seed(content=given)
            line = part.line_of(f"$.inbox[{index}]")
            content = self._ended(one.content, line)
            named = ["id", one.id] if one.id is not None else ["content", content]
            key = json.dumps([found.id, *named])
            if key in first:
                cure = "give each an `id` of its own"
                self.bad.append(BadRow(line, f"this stands on line {first[key]} already; {cure}"))
            first.setdefault(key, line)
            request = SendRequest(
                content=content,
                id=str(uuid5(NAMESPACE_URL, f"perpetua apply {key}")),
                once=True,
                source_id=one.source,
                domain=one.domain,
                priority=one.priority,
                mentions=one.mentions,
            )
            yield Seed(line, found.id, request)

    def _ended(self, text: str, line: int) -> str:
        """Return a text without the ends of lines that YAML's blocks leave behind it."""
        found = text.rstrip("\n")
        if not found:
            self.bad.append(BadRow(line, "there is nothing in it"))
        return found or text

    def _known(self, fields: dict[str, tuple[int, Part]], known: tuple[str, ...]) -> None:
        for name, (line, _) in fields.items():
            if name not in known:
                close = get_close_matches(name.removesuffix("_id"), known, 1)
                cure = f"is `{close[0]}` meant?" if close else f"there are {', '.join(known)}"
                self.bad.append(BadRow(line, f"unknown field `{name}`; {cure}"))

    def _converted(self, part: Part, kind: type[Any]) -> Any:
        """Return the fields of a mapping that a struct has as that; None where something is wrong there."""
        names = _names(kind)
        values = {name: one.value() for name, (_, one) in (part.fields() or {}).items() if name in names}
        try:
            found = msgspec.convert(values, kind)
            msgspec.json.encode(found)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `")
            self.bad.append(BadRow(part.line_of(path), _sentence(message, path)))
        except UnicodeEncodeError:
            self.bad.append(BadRow(part.line, "half of a surrogate pair is no character"))
        else:
            return found
        return None


def _double(error: str) -> str:
    return f"{error.removeprefix('persona_')}; each persona has its own"


def _sentence(message: str, path: str) -> str:
    """Return msgspec's message with the field in front, and the cure where it does not say it."""
    name = path.removeprefix("$").removeprefix(".").rstrip("`")
    if "matching regex" in message:
        message = "Expected 1 to 128 characters without control characters, and not `.` or `..`"
    elif message.startswith("Object missing required field"):
        message = message.replace("Object missing required field", "missing") + "; every one has it"
    elif "`str" in message and message.endswith(_PLAIN_SCALARS):
        message += "; put it into quotes"
    return f"{name}: {message}" if name else message
