"""Where a class or a function is defined, and whether another process can import it from there."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.components.code.identity import is_installed


@dataclass(frozen=True, slots=True)
class Place:
    """The module in which a class or a function is found, and its name in there ("Net").

    file: the module's source; None if it has none, as modules that are compiled.
    """

    module: str
    name: str
    file: Path | None

    @property
    def is_installed(self) -> bool:
        """Whether it belongs to Python or to an installed package."""
        return self.file is None or is_installed(self.file)

    @property
    def lone_file(self) -> Path | None:
        """The file of a module that is in no package and not installed; else None."""
        in_package = "." in self.module or (self.file and self.file.name == "__init__.py")
        return None if in_package or self.is_installed else self.file

    @property
    def root(self) -> Path | None:
        """The folder from which the module is imported; None of an installed module."""
        if self.file is None or self.is_installed:
            return None
        depth = self.module.count(".") + (self.file.name == "__init__.py")
        return self.file.parents[depth]


def find_place(target: Any) -> Place:
    """Returns the place of a class or a function: of the packages around its module, the outermost
    that offers it too."""
    own, name = str(target.__module__), str(target.__qualname__)
    parts = own.split(".")
    candidates = (".".join(parts[:count]) for count in range(1, len(parts)))
    module = next((c for c in candidates if _look_up(sys.modules.get(c), name) is target), own)
    file = getattr(sys.modules.get(module), "__file__", None)
    return Place(module, name, Path(file) if file else None)


def is_importable(target: Any) -> bool:
    """Whether another process finds a class or a function, or the module of this name, by importing
    it. What is defined in a notebook, in the script that runs or in a function's body it does not.
    """
    if isinstance(target, str):
        return _is_module_importable(target)
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    same = _look_up(sys.modules.get(module), name) is target
    return same and _is_module_importable(module)


def _look_up(module: ModuleType | None, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = inspect.getattr_static(value, part, None)
    return value


def _is_module_importable(name: str) -> bool:
    module = sys.modules.get(name)
    if name == "__main__" or module is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None or is_installed(Path(file)):
        return getattr(module, "__spec__", None) is not None
    return _finds_file(name, file)


@cache
def _finds_file(name: str, file: str) -> bool:
    """Whether importing a module by its name would read this file."""
    search: Any = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = _find_spec(".".join(parts[:count]), search)
        if spec is None:
            return False
        search = spec.submodule_search_locations
    return spec is not None and spec.origin is not None and Path(spec.origin) == Path(file)


def _find_spec(name: str, search: Any) -> ModuleSpec | None:
    """Asks Python's finders, but not the modules that are imported already."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, search) if find else None
        if spec is not None:
            return spec
    return None
