"""YAML whose values know the lines on which they stand. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class NotYaml(Exception):
    """A text, or a part of it, is no YAML that means anything."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class Part:
    """A value, and all that is in it."""

    _loader: yaml.SafeLoader
    _node: yaml.Node

    @property
    def line(self) -> int:
        """The line on which it begins, from 1."""
        return int(self._node.start_mark.line) + 1

    @property
    def identity(self) -> int:
        """The same number for what stands once and is named again by an alias."""
        return id(self._node)

    def fields(self) -> dict[str, tuple[int, Part]] | None:
        """Return by key, with the line of the key, what a mapping holds; None where it is none."""
        if not isinstance(self._node, yaml.MappingNode):
            return None
        with _told(self.line):
            self._loader.flatten_mapping(self._node)
        return {
            str(key.value): (int(key.start_mark.line) + 1, Part(self._loader, value))
            for key, value in self._node.value
        }

    def items(self) -> list[Part] | None:
        """Return what a sequence holds; None where it is none."""
        if not isinstance(self._node, yaml.SequenceNode):
            return None
        return [Part(self._loader, node) for node in self._node.value]

    def value(self) -> Any:
        """Return it as plain data. Raises `NotYaml`."""
        with _told(self.line):
            return self._loader.construct_object(self._node, deep=True)

    def line_of(self, path: str) -> int:
        """Return the line of what a path such as `$.inbox[1].priority` leads to, as far as it is there."""
        part, line = self, self.line
        for name, index in _STEP.findall(path):
            if name:
                found = (part.fields() or {}).get(name)
                if found is None:
                    break
                line, part = found
            else:
                items = part.items() or []
                if int(index) >= len(items):
                    break
                part = items[int(index)]
                line = part.line
        return line


def parse(text: str) -> Part | None:
    """Return a document, or None where there is none. Raises `NotYaml`, also where a key stands twice."""
    text = text.removeprefix("\ufeff")
    with _told(1, text):
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    if root is None:
        return None
    for node in _mappings(root):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = int(key.start_mark.line) + 1
            if not isinstance(key, yaml.ScalarNode):
                raise NotYaml(line, "a key is one word")
            if key.value in seen and key.value != "<<":
                raise NotYaml(line, f"`{key.value}` stands on line {seen[key.value]} already")
            seen[key.value] = line
    return Part(loader, root)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Yield every mapping once, however often it is named again."""
    seen: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


class _told:  # noqa: N801 - a context
    """Turns what PyYAML raises into `NotYaml`; where it names no line, the given one is."""

    def __init__(self, line: int, text: str = "") -> None:
        self._line = line
        self._text = text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, yaml.reader.ReaderError):
            line = self._text.count("\n", 0, error.position) + 1
            raise NotYaml(line, f"not valid YAML: {error.reason}") from None
        if isinstance(error, yaml.MarkedYAMLError):
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else self._line
            raise NotYaml(line, f"not valid YAML: {_reason(error)}") from None
        if isinstance(error, RecursionError):
            raise NotYaml(self._line, "nested too deeply; name a `parent` instead of `children`") from None
        if isinstance(error, ValueError | OverflowError):  # such as 2026-13-45, which looks like a date
            raise NotYaml(self._line, f"not valid YAML: {error}; put it into quotes") from None


def _reason(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    cure = ""
    if "\\t" in (error.problem or ""):
        cure = "; indent with spaces"
    elif "flow" in (error.context or ""):
        cure = "; text that holds `,`, `: ` or `?` goes into quotes"
    return ", ".join(parts) + cure
