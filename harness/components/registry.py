"""Finds components: every module of `harness/components/<kind>/`, and installed plugins.

A plugin is a package with an entry point in the group `harness.components` that names a module
offering `COMPONENTS`.
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
SINGULAR = {
    "models": "model",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
    "datasets": "dataset",
    "losses": "loss",
    "metrics": "metric",
    "augmentations": "augmentation",
}


class UnknownComponent(InputError):
    """No component of this kind has this name."""


@cache
def components(kind: str) -> Mapping[str, Component]:
    """All registered components of a kind, by name, in alphabetical order."""
    found: dict[str, Component] = {}
    for module in _modules(kind):
        for component in getattr(module, "COMPONENTS", ()):
            if isinstance(component, KINDS[kind]):
                _add(found, component, module)
    return dict(sorted(found.items()))


@cache
def find(kind: str, name: str) -> Component:
    """The component of this name.

    Raises UnknownComponent, with the closest match, where there is none.
    """
    known = components(kind)
    if name in known:
        return known[name]
    for module in _modules(kind):
        resolve: Callable[[str], Component | None] | None = getattr(module, "resolve", None)
        resolved = resolve(name) if resolve else None
        if resolved is not None and isinstance(resolved, KINDS[kind]):
            return resolved
    raise UnknownComponent(
        Problem(f"{SINGULAR[kind]}: no {name!r} is registered", hint=did_you_mean(name, known))
    )


def resolves(kind: str) -> bool:
    """Whether this kind takes names beyond the registered ones."""
    return any(hasattr(module, "resolve") for module in _modules(kind))


@cache
def _modules(kind: str) -> tuple[ModuleType, ...]:
    package = importlib.import_module(f"harness.components.{kind}")
    own = [
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name)
    ]
    return (*own, *_plugins())


@cache
def _plugins() -> tuple[ModuleType, ...]:
    """Modules named by installed packages, not checked by kind: `components` sorts them out."""
    loaded = (point.load() for point in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(module for module in loaded if isinstance(module, ModuleType))


def _add(found: dict[str, Component], component: Component, module: ModuleType) -> None:
    if component.name in found:
        raise InputError(
            f"two {component.kind} are registered as {component.name!r}, "
            f"the second by {module.__name__}"
        )
    found[component.name] = component
