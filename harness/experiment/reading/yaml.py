"""Reads YAML as people mean it, and remembers the line of every value.

PyYAML parses and composes nodes; this module makes the values from the nodes. So no tag ever
constructs anything, and scalars follow YAML 1.2's core schema: `1e-3` is a number, `on` and `no`
are text. A hostile file is refused before it costs memory: its size, its depth and the number of
its values, aliases expanded, are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from yaml.composer import Composer
from yaml.resolver import BaseResolver

from harness.core.errors import InputError, Problem

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 200_000
"""Values in a file. An alias counts as all values that it stands for."""

Keys = tuple[str | int, ...]
"""The path to a value: keys of mappings and positions in lists."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = yaml.reader.Reader.NON_PRINTABLE

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_WHOLE = r"(?:0|[1-9][0-9]*)"
_INTEGER: Final = re.compile(rf"[-+]?{_WHOLE}")
_FLOAT: Final = re.compile(rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER: Final = 400
"""Characters. Python refuses to read integers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class ParsedYaml:
    """A YAML document.

    values: None, bool, int, float, str, list and dict (str keys) only.
    lines: the line (from 1) of each mapping entry's key and of each list item.
    sha256: the checksum of the file that it was read from; "" if it was read from none.
    """

    values: Any
    lines: Mapping[Keys, int]
    sha256: str = ""


def read(path: Path) -> ParsedYaml:
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
        _refuse("is not UTF-8 text", str(path), content.count(b"\n", 0, error.start) + 1)
    return replace(parse(text, str(path)), sha256=sha256(content).hexdigest())


def parse(text: str, source: str) -> ParsedYaml:
    """Reads one YAML document. source: the name that errors put before the line.

    Raises InputError for whatever is not valid or not allowed.
    """
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        line = text.count("\n", 0, unprintable.start()) + 1
        _refuse(f"has an unprintable character ({unprintable.group()!r})", source, line)
    try:
        root = _Composer(yaml.parse(text, Loader=_LOADER), source).document()
    except yaml.MarkedYAMLError as error:
        reason = " ".join(filter(None, (error.problem, error.context)))
        mark = error.problem_mark or error.context_mark
        if "simple key" in reason:  # found to be none on a line after it
            mark = error.context_mark
        line = mark.line + 1 if mark else 1
        if "nesting depth" in reason:  # Newer parsers have a limit of their own.
            _refuse_depth(source, line)
        _refuse(f"is not valid YAML: {reason}", source, line, _syntax_hint(text, reason, mark))
    except yaml.YAMLError as error:
        _refuse(f"is not valid YAML: {error}", source, 1)
    reader = _Values(source)
    return ParsedYaml(None if root is None else reader.read(root, ()), reader.lines)


def _refuse(what: str, source: str, line: int, hint: str = "") -> NoReturn:
    raise InputError(Problem(what, where=f"{source}:{line}", hint=hint))


def _syntax_hint(text: str, reason: str, mark: yaml.Mark | None) -> str:
    """Returns how to correct the usual mistakes of syntax."""
    at = text.splitlines()[mark.line : mark.line + 1] if mark else []
    line = at[0] if at else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab" in reason:
        return "the line is indented with a tab: use spaces"
    if "cannot start any token" in reason:
        return "put quotes around text that begins with @, %, ` or another special character"
    if "mapping values are not allowed" in reason:
        return "put quotes around text that contains a colon and a space"
    if "expected ':'" in reason:
        return "put a space after the colon"
    return "close each bracket, brace and quote" if "flow" in reason or "quoted" in reason else ""


def _refuse_depth(source: str, line: int) -> NoReturn:
    _refuse(f"is nested more than {MAX_DEPTH} levels deep", source, line)


def _line(node: Any) -> int:
    """Returns the line (from 1) where a node or an event begins."""
    return int(node.start_mark.line) + 1


class _Composer(Composer, BaseResolver):
    """Composes nodes, each alias as a node of its own. Refuses tags and deep nesting."""

    def __init__(self, events: Iterator[yaml.Event], source: str) -> None:
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.events = events
        self.event = next(events)
        self.source = source
        self.depth = 0

    def check_event(self, *kinds: type[yaml.Event]) -> bool:
        return isinstance(self.event, kinds)

    def peek_event(self) -> yaml.Event:
        return self.event

    def get_event(self) -> yaml.Event:
        event = self.event
        self.event = next(self.events, event)
        return event

    def document(self) -> yaml.Node | None:
        """Returns the root node, or None where the text holds no document."""
        self.get_event()  # the start of the stream
        root = None if self.check_event(yaml.StreamEndEvent) else self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            _refuse("contains a second YAML document", self.source, _line(self.event))
        return root

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.event
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                _refuse(f"*{event.anchor} refers to no anchor", self.source, _line(event))
            node = super().compose_node(parent, index)
            if node is None or node.end_mark is None:
                _refuse(f"*{event.anchor} contains itself", self.source, _line(event))
            alias = copy(node)
            alias.start_mark = event.start_mark
            return alias
        if event.tag is not None:
            _refuse(f"tags are not allowed, given {event.tag!r}", self.source, _line(event))
        if isinstance(event, yaml.CollectionStartEvent) and self.depth >= MAX_DEPTH:
            _refuse_depth(self.source, _line(event))
        self.anchors.pop(event.anchor, None)  # an anchor may be given again
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(slots=True)
class _Values:
    """Makes plain values from nodes, each alias with a copy of its own."""

    source: str
    lines: dict[Keys, int] = field(default_factory=dict)
    count: int = 0

    def read(self, node: yaml.Node, keys: Keys) -> Any:
        line = self.lines.get(keys[:1], 1)
        self.count += 1
        if self.count > MAX_VALUES:
            _refuse(f"has more than {MAX_VALUES} values", self.source, line)
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else self.scalar(node.value, _line(node))
        if len(keys) >= MAX_DEPTH:
            _refuse_depth(self.source, line)
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.lines[*keys, position] = _line(item)
            return [self.read(item, (*keys, i)) for i, item in enumerate(node.value)]
        for key, _ in node.value:
            self.add_key(key, keys)
        return {key.value: self.read(item, (*keys, key.value)) for key, item in node.value}

    def add_key(self, key: yaml.Node, keys: Keys) -> None:
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode):
            _refuse("a key must be text", self.source, line)
        if key.value == "<<":
            _refuse("merge keys ('<<') are not supported", self.source, line)
        if (*keys, key.value) in self.lines:
            first = self.lines[*keys, key.value]
            _refuse(f"{key.value!r} is given twice, first on line {first}", self.source, line)
        self.lines[*keys, key.value] = line

    def scalar(self, text: str, line: int) -> Any:
        """Returns what a plain scalar means by YAML 1.2's core schema, without octal and
        hexadecimal numbers."""
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        number: float = math.nan
        if _FLOAT.fullmatch(text):
            if len(text) > _LONGEST_NUMBER:
                _refuse(f"a number of {len(text)} characters is too long", self.source, line)
            number = int(text) if _INTEGER.fullmatch(text) else float(text)
        elif not _NOT_FINITE.fullmatch(text):
            return text
        if not math.isfinite(number):
            _refuse(f"numbers must be finite, given {text}", self.source, line)
        return number + 0  # -0.0 + 0 is 0.0: a number has one spelling
