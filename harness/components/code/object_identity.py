"""The identity of a class or a function that no other process can import: one of a notebook cell,
of an interactive shell, of the script that runs, or of a function's body.

It covers the syntax of its functions, and the values that they use from outside: helper functions,
constants, base classes, defaults, imported modules. Comments, docstrings and the order of
definitions are no part of it, so that running an unchanged cell again changes nothing.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

from harness.components.code.identity import Sources, canonical
from harness.components.code.places import find_place, is_importable
from harness.components.code.source import MARK

PLAIN: Final = (bool, int, float, complex, str, bytes, type(None), type(...))
NO_PART: Final = frozenset(
    (
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__slotnames__"),
        *("__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl"),
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__parameters__"),
        MARK,
    )
)
"""Attributes of a class that say nothing of what it does, or that follow from its others."""
READS_GLOBAL: Final = ("LOAD_GLOBAL", "LOAD_NAME")


def object_identity(target: Any) -> str:
    """Returns the identity of a class or a function by what it is made of, 16 hex digits."""
    walk = _Walk()
    content = repr((walk.describe(target), walk.sources.identity()))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Used:
    """What a class or a function is made of. sources: files and packages that it imports. text:
    the source of what is defined beside it."""

    sources: Sources
    text: str


def used_by(target: Any) -> Used:
    """Returns what a class or a function is made of."""
    walk = _Walk()
    walk.describe(target)
    return Used(walk.sources, "\n\n\n".join(walk.texts) + "\n")


@dataclass(slots=True)
class _Walk:
    """Describes objects by plain values whose text is the same in every process.

    sources: the local files and the packages that they use. seen: the number of each object that
    was met, by its id. alive: these objects, so that no other gets the id of one of them.
    texts: the source of each class and function, in order.
    """

    sources: Sources = field(default_factory=lambda: Sources(None))
    seen: dict[int, int] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)
    texts: dict[str, None] = field(default_factory=dict)

    def describe(self, value: Any) -> Any:
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return type(value).__name__, repr(value)
        if id(value) in self.seen:
            return "again", self.seen[id(value)]
        self.seen[id(value)] = len(self.seen)
        self.alive.append(value)
        for kinds, method in _BY_KIND.items():
            if isinstance(value, kinds):
                return method(self, value)
        return self._instance(value)

    def _module(self, module: ModuleType) -> Any:
        self.sources.follow(module.__name__)
        return "module", module.__name__

    def _importable(self, value: Any) -> Any:
        place = find_place(value)
        self.sources.follow(place.module)
        return "imported", place.module, place.name

    def _class(self, cls: type) -> Any:
        if is_importable(cls):
            return self._importable(cls)
        members = [
            (name, self.describe(member))
            for name, member in sorted(vars(cls).items())
            if name not in NO_PART
            and not isinstance(member, (GetSetDescriptorType, MemberDescriptorType))
        ]
        bases = [self.describe(base) for base in cls.__bases__]
        return "class", self.describe(type(cls)), bases, members

    def _function(self, function: FunctionType) -> Any:
        if is_importable(function):
            return self._importable(function)
        code, module = function.__code__, str(function.__globals__.get("__name__"))
        outside: list[Any] = [self.describe(function.__defaults__)]
        outside.append(self.describe(function.__kwdefaults__))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # An empty cell.
                outside.append((name, self.describe(cell.cell_contents)))
        if is_importable(module):
            # A wrapper that a library's decorator made: its library's version says what it does.
            self.sources.follow(module)
            return "wrapper", module, code.co_qualname, outside
        used = sorted(set(_globals_of(code)) & set(function.__globals__))
        outside += [(name, self.describe(function.__globals__[name])) for name in used]
        return "function", self._syntax(code) or self._bytecode(code), outside

    def _syntax(self, code: CodeType) -> str:
        """Returns the syntax of a function, "" where its source is not known."""
        text = "".join(linecache.getlines(code.co_filename))
        same = [
            function
            for function in _functions(text)
            if (function.name, function.line) == (code.co_name, code.co_firstlineno)
        ]
        self.texts.update(dict.fromkeys(function.around for function in same))
        return "".join(canonical(function.node) for function in same)

    def _bytecode(self, code: CodeType) -> Any:
        """Describes code without a source, as of `exec`. It differs among versions of Python."""
        constants = [
            self._bytecode(constant) if isinstance(constant, CodeType) else repr(constant)
            for constant in code.co_consts
        ]
        version = sys.version_info[:2]
        return version, code.co_code.hex(), code.co_names, code.co_varnames, constants

    def _method(self, method: MethodType) -> Any:
        return "method", self.describe(method.__func__), self.describe(method.__self__)

    def _builtin(self, function: BuiltinFunctionType) -> Any:
        owner = function.__self__
        if isinstance(owner, ModuleType) or owner is None:
            return "builtin", function.__module__, function.__qualname__
        return "builtin", function.__qualname__, self.describe(owner)

    def _wrapped(self, wrapper: staticmethod[..., Any] | classmethod[Any, ..., Any]) -> Any:
        return type(wrapper).__name__, self.describe(wrapper.__func__)

    def _property(self, value: property) -> Any:
        return "property", *map(self.describe, (value.fget, value.fset, value.fdel))

    def _items(self, value: list[Any] | tuple[Any, ...]) -> Any:
        return type(value).__name__, [self.describe(item) for item in value]

    def _mapping(self, value: dict[Any, Any]) -> Any:
        return "dict", [(self.describe(key), self.describe(value[key])) for key in value]

    def _set(self, value: set[Any] | frozenset[Any]) -> Any:
        return "set", [self.describe(item) for item in sorted(value, key=repr)]

    def _instance(self, value: Any) -> Any:
        """Describes any other object by its class and by what its copy would be made of."""
        kind = self.describe(type(value))
        content = _array_bytes(value)
        if content is not None:
            return "array", kind, hashlib.sha256(content).hexdigest()
        try:
            made_of = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - an open file, a lock, whatever a class raises
            return "object", kind
        if isinstance(made_of, str):
            return "object", kind, made_of
        _, arguments, *rest = made_of
        parts = [part if i == 0 else list(part or ()) for i, part in enumerate(rest[:3])]
        return "object", kind, self.describe(arguments), self.describe(parts)


_BY_KIND: Final[Mapping[Any, Any]] = {
    ModuleType: _Walk._module,
    type: _Walk._class,
    FunctionType: _Walk._function,
    MethodType: _Walk._method,
    BuiltinFunctionType: _Walk._builtin,
    (staticmethod, classmethod): _Walk._wrapped,
    property: _Walk._property,
    (list, tuple): _Walk._items,
    dict: _Walk._mapping,
    (set, frozenset): _Walk._set,
}


def _globals_of(code: CodeType) -> Iterator[str]:
    """Yields the names that code, and the code in it, reads from its module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in READS_GLOBAL:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


@dataclass(frozen=True, slots=True)
class _FoundFunction:
    """A function of a source. line: its first, with decorators. around: the whole definition, of a
    class for example, in which it stands."""

    node: ast.AST
    name: str
    line: int
    around: str


@cache
def _functions(text: str) -> tuple[_FoundFunction, ...]:
    """Returns all functions of a source."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ()
    found, lines = [], text.splitlines()
    for statement in tree.body:
        around = "\n".join(lines[_first_line(statement) - 1 : statement.end_lineno])
        for node in ast.walk(statement):
            if isinstance(node, ast.Lambda):
                found.append(_FoundFunction(node, "<lambda>", node.lineno, around))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.append(_FoundFunction(node, node.name, _first_line(node), around))
    return tuple(found)


def _first_line(statement: ast.stmt) -> int:
    """Returns the line on which a statement, or its first decorator, begins."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(each.lineno for each in decorators)])


def _array_bytes(value: Any) -> bytes | None:
    """Returns the content of a tensor or of an array of numbers; None of anything else."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        return repr((value.dtype, value.shape)).encode() + flat.view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return repr((value.dtype.str, value.shape)).encode() + value.tobytes()
    return None
