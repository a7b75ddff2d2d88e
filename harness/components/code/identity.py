"""The identity of a user's code, a part of the ids of all trials that use it.

The identity of a Python file is a hash of its syntax tree, and of the trees of the files that it
imports from beside it, from an editable installation or from elsewhere on `sys.path`. Comments,
docstrings, line numbers and the file's own name and place are no part of it. An installed package
counts by its name and version. The standard library does not count, and neither do the harness and
what it requires (torch, numpy, …): a run's provenance records their versions.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

PACKAGE_OF: Final = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Packages of common modules that have another name."""
REQUIRED: Final = frozenset(
    (
        "annotated-types",
        "cloudpickle",
        "cmaes",
        "filelock",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "mlflow",
        "numpy",
        "optuna",
        "packaging",
        "pandas",
        "pillow",
        "plotly",
        "psutil",
        "pydantic",
        "pydantic-core",
        "pyyaml",
        "requests",
        "rich",
        "scikit-learn",
        "scipy",
        "sqlalchemy",
        "torch",
        "torchvision",
    )
)
"""What the harness itself requires, which does not count."""
DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def file_identity(path: Path) -> str:
    """Returns the identity of a Python file, 16 hex digits.

    Raises SyntaxError and OSError for a file that cannot be read as Python.
    """
    return file_sources(path).identity()


def file_sources(path: Path) -> Sources:
    """Returns the code that a Python file uses, itself included. Raises as `file_identity`."""
    sources = Sources(path.parent)
    sources.add("", path)
    return sources


def package_identity(module: str) -> str:
    """Returns the identity of a module that can be imported by its name.

    Raises ModuleNotFoundError if there is none.
    """
    return package_sources(module).identity()


def package_sources(module: str) -> Sources:
    """Returns the code of a module that can be imported. Raises as `package_identity`."""
    sources = Sources(None)
    if sources.find(module.partition(".")[0]) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    sources.follow(module)
    return sources


@dataclass(slots=True)
class Sources:
    """The code that a file uses, gathered by following its imports.

    folder: where its imports are looked for first. trees: the syntax of each local file, by the
    name under which it is imported. packages: the installed packages, each as "name==version".
    files: the local files, by the same names.
    """

    folder: Path | None
    trees: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    files: dict[str, Path] = field(default_factory=dict)

    def identity(self) -> str:
        content = repr((sorted(self.trees.items()), sorted(self.packages)))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def add(self, name: str, path: Path, package: str = "") -> None:
        """Adds a file, and what it imports.

        name: under which it is imported; "" for the first file. package: the one it lies in.
        """
        tree = ast.parse(path.read_bytes(), filename=str(path))
        self.trees[name] = canonical(tree)
        self.files[name] = path
        for imported in _imports(tree, package):
            self.follow(imported)

    def follow(self, name: str) -> None:
        """Adds a module that is imported, with the packages that contain it."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "harness":
            return
        spec = self.find(top)
        if spec is None:
            return  # An optional import, or an error that importing the file will show.
        if spec.origin is not None and is_installed(Path(spec.origin)):
            self.packages |= _installed_package(top)
            return
        self._follow_local(name, spec)

    def find(self, top: str) -> ModuleSpec | None:
        """Returns where a top-level module comes from, without importing it."""
        beside = PathFinder.find_spec(top, [str(self.folder)]) if self.folder else None
        try:
            return beside or importlib.util.find_spec(top)
        except (ImportError, ValueError):  # ValueError: a module without a spec, as __main__.
            return None

    def _follow_local(self, name: str, spec: ModuleSpec) -> None:
        """Adds the files of "a.b.c": those of a, a.b and a.b.c, where each is a file."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            module = ".".join(parts[:count])
            if count > 1:
                within = PathFinder.find_spec(module, spec.submodule_search_locations or [])
                if within is None:
                    return  # "from a import b", where b is no module.
                spec = within
            is_package = spec.submodule_search_locations is not None
            is_source = spec.origin is not None and spec.origin.endswith(".py")
            if is_source and module not in self.trees:
                package = module if is_package else module.rpartition(".")[0]
                self.add(module, Path(str(spec.origin)), package)


def canonical(node: object) -> str:
    """Returns a syntax tree as text, without docstrings and positions. The text is the same in all
    versions of Python, which add fields that are empty in older code."""
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={canonical(value)}"
            for name, value in _fields(node)
            if value is not None and value != [] and name not in ("ctx", "type_comment")
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return repr(node)


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            yield name, value[1:]
        else:
            yield name, value


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yields the names of all modules that a file may import, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = [*above, node.module] if node.level else [node.module]
            module = ".".join(filter(None, start))
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    harness = Path(__file__).parents[2]
    return harness, *{Path(sysconfig.get_path(name)).resolve() for name in names}


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python itself or to an installed package, the harness included."""
    resolved = path.resolve()
    return "site-packages" in resolved.parts or any(
        resolved.is_relative_to(folder) for folder in _installed_folders()
    )


def _installed_package(module: str) -> set[str]:
    """Returns the installed packages that provide a module, each as "name==version"."""
    package = PACKAGE_OF.get(module, module)
    if _normal(package) in REQUIRED:
        return set()  # To read the metadata of torch takes 10 ms, each time.
    try:  # Most packages have the name of their module; to search all takes a second.
        found = {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        found = {name: metadata.version(name) for name in _distributions().get(module, ())}
    return {
        f"{_normal(name)}=={version}"
        for name, version in found.items()
        if _normal(name) not in REQUIRED
    }


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
