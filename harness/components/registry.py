"""The registry of components: the modules of `harness/components/<kind>/`, plugins, and the code
that an experiment file names.

A plugin is an installed package with an entry point in the group `harness.components`. The entry
point names a module with a tuple `COMPONENTS`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from harness.components.base import ABSENT, KINDS, NONE, SINGULAR, Component
from harness.components.code.adapters import make_component
from harness.components.code.datasets import forget_data
from harness.components.code.objects import GivenObject
from harness.components.code.source import (
    MARK,
    Loaded,
    UserCode,
    declared,
    entry_of,
    find_object,
    is_file,
    line_of,
    load_entry,
    place_of,
)
from harness.core.errors import HarnessError, InputError, Problem, did_you_mean

ENTRY_POINT_GROUP = "harness.components"


class UnknownComponent(InputError):
    """No component of this kind has this name."""


class CodeNotRun(HarnessError):
    """A file names code where none may run."""


_active: UserCode | None = None
"""The code that the experiment file in hand names. Each process has its own."""


def activate(code: UserCode | None, reload: bool = False) -> None:
    """Makes the code that an experiment names known in this process, in place of another's.

    reload: load it again if its files have changed.
    """
    global _active
    if reload or code != _active:
        _active = code
        if reload:
            forget_data()
        for known in (_loaded, components, find):
            known.cache_clear()


def active_code() -> UserCode | None:
    return _active


def line_of_code(error: BaseException) -> str:
    """Returns the line of the active code in which an error was raised (see `line_of`); "" if there
    is none."""
    return "" if _active is None else line_of(error, _active.folder)


@contextmanager
def no_code() -> Iterator[None]:
    """While entered, no code of a user's is known, and none is loaded."""
    before = _active
    activate(None)
    try:
        yield
    finally:
        activate(before)


def give(given: GivenObject) -> None:
    """Makes a class or a function known that Python code gives in place of a component's name.

    Raises InputError if another component has its name.
    """
    global _active
    code = _active or UserCode(Path.cwd())
    known = {each.name: each.identity for each in code.given if each.kind == given.kind}
    known |= {name: component.code for name, component in components(given.kind).items()}
    if given.name not in known:
        _active = replace(code, given=(*code.given, given))
    elif known[given.name] != given.identity:
        singular = SINGULAR[given.kind]
        hint = f'call this one otherwise: @harness.{singular}(name="…")'
        raise InputError(Problem(f"another {singular} is called {given.name!r}", hint=hint))


def refer(kind: str, name: str) -> None:
    """Allows `find` to load what a file names by its place, as "my_net.py:Net". Raises CodeNotRun
    where no code may be loaded."""
    global _active
    if ":" not in name or _find_own(kind, name) is not None or _find_given(kind, name):
        return
    if _active is None:
        raise CodeNotRun(f"{name} is code, which is not run here")
    _active = replace(_active, references=_active.references | {(kind, name)})


@cache
def components(kind: str) -> Mapping[str, Component]:
    """Returns all registered components of a kind by name, in alphabetical order, those of the
    active code included.

    Raises InputError if two have the same name, and if the active code cannot be loaded.
    """
    if _active is None or not _active.entries:
        return _installed(kind)
    registered = dict(_installed(kind))
    for loaded in map(_loaded, _active.entries):
        for mark, target in declared(loaded.module):
            if mark.kind == kind:
                details = dict(mark.details)
                component = make_component(kind, mark.name, target, loaded.identity, details)
                _register(registered, component, place_of(target))
    return dict(sorted(registered.items()))


@cache
def _loaded(entry: str) -> Loaded:
    """Loads a file or a module that the active code names."""
    if _active is None:
        raise CodeNotRun(f"{entry} is code, which is not run here")
    return load_entry(_active.folder, entry)


@cache
def _installed(kind: str) -> Mapping[str, Component]:
    """Returns the components of the harness and of plugins."""
    registered: dict[str, Component] = {}
    for module in _modules(kind):
        for component in getattr(module, "COMPONENTS", ()):
            if isinstance(component, KINDS[kind]):
                _register(registered, component, module.__name__)
    return dict(sorted(registered.items()))


def _register(registered: dict[str, Component], component: Component, origin: str) -> None:
    if component.name in registered:
        kind = component.kind
        wrong = f"two {kind} are registered as {component.name!r}, the second by {origin}"
        hint = f'give it another name: @harness.{SINGULAR[kind]}(name="…")'
        raise InputError(Problem(wrong, hint=hint))
    registered[component.name] = component


@cache
def find(kind: str, name: str) -> Component:
    """Returns the component of this kind and name. A name with a colon refers to code: of the
    user's, "my_net.py:Net", or of a package, "package.module:Net". Only such code is loaded as the
    experiment file in hand names (see `refer`).

    Raises UnknownComponent, with the closest match, if there is none.
    """
    registered = components(kind)
    if name in registered:
        return registered[name]
    if name == NONE and kind in ABSENT:
        return ABSENT[kind]
    if given := _find_given(kind, name):
        return make_component(kind, name, given.load(), given.identity, given.details)
    own = _find_own(kind, name)
    if own is not None:
        return own
    if _active is not None and (kind, name) in _active.references:
        loaded = _loaded(entry_of(name))
        target = find_object(loaded.module, name)
        return make_component(kind, name, target, loaded.identity)
    hint = _own_code_hint(name) or _undecorated(kind, name) or did_you_mean(name, registered)
    raise UnknownComponent(Problem(f"{SINGULAR[kind]}: no {name!r} is registered", hint=hint))


def named_components(kind: str) -> Mapping[str, Component]:
    """Returns the registered components of a kind, and those that the experiment in hand names by
    their place or gives as objects."""
    if _active is None:
        return components(kind)
    given = {(each.kind, each.name) for each in _active.given}
    others = sorted({*_active.references, *given})
    return {**components(kind), **{name: find(kind, name) for of, name in others if of == kind}}


def _undecorated(kind: str, name: str) -> str:
    """Returns how a class or function without a decorator is named; "" if there is none."""
    for entry in _active.entries if _active else ():
        target = vars(_loaded(entry).module).get(name)
        if callable(target) and not hasattr(target, MARK):
            return f'decorate it with @harness.{SINGULAR[kind]}, or name it "{entry}:{name}"'
    return ""


def _own_code_hint(name: str) -> str:
    """Returns how a name that looks like a place in Python code is written; "" for another."""
    place = re.fullmatch(r"([\w./-]+?)(?:\.py)?[.:]+(\w+)", name)
    if place is None:
        return ""
    module, target = place.groups()
    file = module.replace(".", "/")
    return f'to use your own file, write "{file}.py:{target}"; of a package, "{module}:{target}"'


def _find_own(kind: str, name: str) -> Component | None:
    """Returns what a module of the harness or of a plugin knows by a name that is not registered,
    as "torchvision:resnet18"."""
    for module in _modules(kind):
        resolve: Callable[[str], Component | None] | None = getattr(module, "resolve", None)
        component = resolve(name) if resolve else None
        if isinstance(component, KINDS[kind]):
            return component
    return None


def _find_given(kind: str, name: str) -> GivenObject | None:
    """Returns the object that Python code gave in place of a name."""
    every = _active.given if _active is not None else ()
    return next((given for given in every if (given.kind, given.name) == (kind, name)), None)


def object_name(name: str) -> str:
    """Returns a component's name without the path of its file: "Net" of "nets/my_net.py:Net"."""
    return name.rpartition(":")[2] if is_file(entry_of(name)) else name


def resolves(kind: str) -> bool:
    """Returns whether this kind accepts names other than the registered ones."""
    return any(hasattr(module, "resolve") for module in _modules(kind))


@cache
def _modules(kind: str) -> tuple[ModuleType, ...]:
    package = importlib.import_module(f"harness.components.{kind}")
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    own = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return (*own, *_plugins())


@cache
def _plugins() -> tuple[ModuleType, ...]:
    """The modules of installed plugins. One module may have components of several kinds."""
    loaded = (point.load() for point in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(module for module in loaded if isinstance(module, ModuleType))
