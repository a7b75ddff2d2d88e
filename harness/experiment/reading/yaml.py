"""Reads YAML as people mean it, and remembers where everything stood.

PyYAML's safe loader parses; the values are built here from its events. So nothing is ever
constructed from a tag, scalars follow YAML 1.2's core schema (`1e-3` is a number, `on` and `no`
are text), and a hostile file is refused before it costs memory: no recursion, and bounds on
size, depth and on what aliases expand to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from harness.core.errors import InputError, Problem

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 200_000
"""Values in a file, each alias counted as all that it stands for."""

Keys = tuple[str | int, ...]
"""The way to a value: keys of mappings and positions in lists."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = yaml.reader.Reader.NON_PRINTABLE

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_WHOLE = r"(?:0|[1-9][0-9]*)"
_INTEGER: Final = re.compile(rf"[-+]?{_WHOLE}")
_FLOAT: Final = re.compile(rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER: Final = 400
"""Characters; Python refuses to read integers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """values: None, bool, int, float, str, list and dict (str keys) only.

    lines: the line (from 1) of each mapping entry's key and of each list item.
    """

    values: Any
    lines: Mapping[Keys, int]


def read(path: Path) -> Parsed:
    """Reads a file. Raises InputError with the file and, where there is one, the line."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", where=str(path))) from None
    if len(content) > MAX_BYTES:
        raise InputError(Problem("is larger than 1 MiB", where=str(path)))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(Problem("is not UTF-8 text", where=f"{path}:{line}")) from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Parsed:
    """Reads one YAML document. source: what errors call it, with the line behind it."""
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        line = text.count("\n", 0, unprintable.start()) + 1
        _refuse(f"has an unprintable character ({unprintable.group()!r})", source, line)
    try:
        root = _Builder(source).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.problem, error.context)))
        _refuse(f"is not valid YAML: {reason}", source, _line(mark))
    except yaml.YAMLError as error:
        _refuse(f"is not valid YAML: {error}", source, 1)
    lines: dict[Keys, int] = {}
    return Parsed(None if root is None else _plain(root, (), lines), lines)


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _refuse(what: str, source: str, line: int) -> NoReturn:
    raise InputError(Problem(what, where=f"{source}:{line}"))


@dataclass(slots=True)
class _Node:
    """A value while it is built. `nodes` and `depth` count what it holds, aliases expanded."""

    line: int
    value: Any = None
    items: list[_Node] | None = None
    entries: dict[str, tuple[int, _Node]] | None = None
    key: tuple[int, str] | None = None
    """Of a mapping: the key that waits for its value, with its line."""
    anchor: str | None = None
    nodes: int = 1
    depth: int = 1


@dataclass(slots=True)
class _Builder:
    """Turns events into nodes, keeping the open lists and mappings on a stack of its own."""

    source: str
    stack: list[_Node] = field(default_factory=list)
    anchors: dict[str, _Node | None] = field(default_factory=dict)
    """None while what the anchor names is still open."""
    root: _Node | None = None
    documents: int = 0

    def build(self, events: Iterator[yaml.Event]) -> _Node | None:
        for event in events:
            line = _line(event.start_mark)
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    _refuse("holds a second YAML document", self.source, line)
            elif isinstance(event, yaml.AliasEvent):
                self.close(self.aliased(event.anchor, line), line)
            elif isinstance(event, yaml.ScalarEvent):
                self.scalar(event, line)
            elif isinstance(event, yaml.CollectionStartEvent):
                self.open(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.close(self.stack.pop(), line)
        return self.root

    def scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self.refuse_tag(event.tag, line)
        node = _Node(line, anchor=event.anchor)
        parent = self.stack[-1] if self.stack else None
        if parent is not None and parent.entries is not None and parent.key is None:
            node.value = event.value  # a key: its text as it stands
        else:
            node.value = self.resolved(event.value, line) if event.implicit[0] else event.value
        self.close(node, line)

    def open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self.refuse_tag(event.tag, line)
        if len(self.stack) >= MAX_DEPTH:
            _refuse(f"is nested more than {MAX_DEPTH} deep", self.source, line)
        node = _Node(line, anchor=event.anchor)
        if isinstance(event, yaml.MappingStartEvent):
            node.entries = {}
        else:
            node.items = []
        if node.anchor:
            self.anchors[node.anchor] = None
        self.stack.append(node)

    def close(self, node: _Node, line: int) -> None:
        """Files a finished node under its parent."""
        if node.anchor:
            self.anchors[node.anchor] = node
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if parent.items is not None:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = (line, self.key(parent, node, line))
            return
        else:
            (key_line, key), parent.key = parent.key, None
            assert parent.entries is not None  # noqa: S101 - a collection is one or the other
            parent.entries[key] = (key_line, node)
        parent.nodes += node.nodes
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.nodes > MAX_NODES:
            _refuse(f"holds more than {MAX_NODES} values", self.source, line)
        if len(self.stack) + node.depth > MAX_DEPTH + 1:
            _refuse(f"is nested more than {MAX_DEPTH} deep", self.source, line)

    def key(self, parent: _Node, node: _Node, line: int) -> str:
        if not isinstance(node.value, str):
            _refuse("a key must be text", self.source, node.line)
        if node.value == "<<":
            _refuse("merge keys ('<<') are not supported", self.source, line)
        entries = parent.entries or {}
        if node.value in entries:
            first = entries[node.value][0]
            _refuse(f"{node.value!r} is given twice, first on line {first}", self.source, line)
        return node.value

    def aliased(self, anchor: str | None, line: int) -> _Node:
        if anchor is None or anchor not in self.anchors:
            _refuse(f"*{anchor} names no anchor", self.source, line)
        node = self.anchors[anchor]
        if node is None:
            _refuse(f"*{anchor} contains itself", self.source, line)
        return node

    def refuse_tag(self, tag: str | None, line: int) -> None:
        if tag is not None:
            _refuse(f"tags are not allowed, given {tag!r}", self.source, line)

    def resolved(self, text: str, line: int) -> Any:
        """The value of a plain scalar, by YAML 1.2's core schema without octal and hexadecimal."""
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _NOT_FINITE.fullmatch(text):
            _refuse(f"numbers must be finite, given {text}", self.source, line)
        if not _FLOAT.fullmatch(text):
            return text
        if len(text) > _LONGEST_NUMBER:
            _refuse(f"a number of {len(text)} characters is too long", self.source, line)
        number = int(text) if _INTEGER.fullmatch(text) else float(text)
        if not math.isfinite(number):
            _refuse(f"numbers must be finite, given {text}", self.source, line)
        return number


def _plain(node: _Node, keys: Keys, lines: dict[Keys, int]) -> Any:
    """Plain values of a node, each alias with a copy of its own. Depth is bounded by now."""
    if node.items is not None:
        for position, item in enumerate(node.items):
            lines[*keys, position] = item.line
        return [_plain(item, (*keys, i), lines) for i, item in enumerate(node.items)]
    if node.entries is not None:
        for key, (line, _) in node.entries.items():
            lines[*keys, key] = line
        return {k: _plain(child, (*keys, k), lines) for k, (_, child) in node.entries.items()}
    return node.value
