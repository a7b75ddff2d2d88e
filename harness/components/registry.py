"""The registry of components: the modules of `harness/components/<kind>/`, and plugins.

A plugin is an installed package with an entry point in the group `harness.components`. The entry
point names a module with a tuple `COMPONENTS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from harness.components.base import KINDS, Component
from harness.core.errors import InputError, Problem, did_you_mean

ENTRY_POINT_GROUP = "harness.components"
SINGULAR = {kind: cls.__name__.lower() for kind, cls in KINDS.items()}
"""{"models": "model", …}."""


class UnknownComponent(InputError):
    """No component of this kind has this name."""


@cache
def components(kind: str) -> Mapping[str, Component]:
    """Returns all registered components of a kind by name, in alphabetical order.

    Raises InputError if two have the same name.
    """
    registered: dict[str, Component] = {}
    for module in _modules(kind):
        for component in getattr(module, "COMPONENTS", ()):
            if not isinstance(component, KINDS[kind]):
                continue
            if component.name in registered:
                raise InputError(
                    f"two {kind} are registered as {component.name!r}, "
                    f"the second by {module.__name__}"
                )
            registered[component.name] = component
    return dict(sorted(registered.items()))


@cache
def find(kind: str, name: str) -> Component:
    """Returns the component of this kind and name.

    Raises UnknownComponent, with the closest match, if there is none.
    """
    registered = components(kind)
    if name in registered:
        return registered[name]
    for module in _modules(kind):
        resolve: Callable[[str], Component | None] | None = getattr(module, "resolve", None)
        component = resolve(name) if resolve else None
        if isinstance(component, KINDS[kind]):
            return component
    hint = did_you_mean(name, registered)
    raise UnknownComponent(Problem(f"{SINGULAR[kind]}: no {name!r} is registered", hint=hint))


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
