"""Finds and loads the code that an experiment file names.

`UserCode` says where an experiment's code is. It is a plain value that travels with each task, so
that worker processes load the same code. Only an experiment file in the user's hand makes one:
nothing that a store holds is ever loaded.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from harness.components.code.identity import (
    Sources,
    file_sources,
    is_installed,
    package_sources,
)
from harness.core.errors import HarnessError, InputError, Problem, did_you_mean

if TYPE_CHECKING:
    from harness.components.code.objects import GivenObject

MARK: Final = "__harness_component__"
"""The attribute in which a decorator notes the kind and the name of a component."""


@dataclass(frozen=True, slots=True)
class UserCode:
    """Where an experiment's code is.

    folder: the experiment file's; its files are looked for there.
    entries: as the file lists them after `code:`: paths of Python files, or names of modules that
        can be imported.
    references: the components that the file names by their place, as "my_net.py:Net", each with its
        kind. No other name leads to code.
    given: the classes and functions that Python code gives in place of a name.
    """

    folder: Path
    entries: tuple[str, ...] = ()
    references: frozenset[tuple[str, str]] = frozenset()
    given: tuple[GivenObject, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """All files and modules that the experiment file names, in whatever way."""
        referred = sorted(entry_of(name) for _, name in self.references)
        return tuple(dict.fromkeys((*self.entries, *referred)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """The module of a file or of a package, and the identity of its code."""

    module: ModuleType
    identity: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What a decorator notes: a component's kind, its name, and what else the kind wants."""

    kind: str
    name: str
    details: tuple[tuple[str, Any], ...] = ()


def declared(module: ModuleType) -> Iterator[tuple[Declared, Any]]:
    """Yields the objects of a module that a decorator has marked. A subclass is not marked because
    its base class is."""
    for value in vars(module).values():
        try:
            mark = vars(value).get(MARK)
        except TypeError:
            continue
        if isinstance(mark, Declared):
            if mark.name == "<lambda>":
                hint = 'give it one: name="…", or define a function'
                raise InputError(Problem("a lambda has no name", place_of(value), hint))
            yield mark, value


def is_file(entry: str) -> bool:
    """Whether an entry is the path of a file, and not the name of a module."""
    return entry.endswith(".py")


def entry_of(reference: str) -> str:
    """Returns the file or the module that "my_net.py:Net" or "package.module:Net" names."""
    return reference.rpartition(":")[0]


def identity_of(folder: Path, entry: str) -> str:
    """Returns the identity of an entry's code. Raises InputError if it cannot be read."""
    return sources_of(folder, entry).identity()


def sources_of(folder: Path, entry: str) -> Sources:
    """Returns the code that an entry leads to. Raises InputError if it cannot be read."""
    try:
        if is_file(entry):
            return file_sources(_path(folder, entry))
        _check_module_name(entry)
        return package_sources(entry)
    except ModuleNotFoundError as error:
        raise InputError(Problem(f"code: {error}", hint=INSTALL)) from error
    except SyntaxError as error:
        raise InputError(_syntax_problem(error, entry)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Problem(f"{entry} cannot be read as Python: {error}")) from error


INSTALL: Final = "install it, or name a file, as my_model.py"


def find_object(module: ModuleType, reference: str) -> Any:
    """Returns what "my_net.py:Net" or "package.module:Net" names in its module. Raises
    InputError."""
    entry, _, name = reference.rpartition(":")
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            public = [known for known in vars(value) if not known.startswith("_")]
            hint = did_you_mean(part, public, most=MAX_NAMES)
            raise InputError(Problem(f"{entry} has no {name!r}", hint=hint))
        value = getattr(value, part)
    return value


MAX_NAMES: Final = 40
"""Most names of a module, or files of a folder, that a message lists."""


def load_entry(folder: Path, entry: str) -> Loaded:
    """Loads a file beside or below the experiment file, or an installed module.

    A file is run once in a process, as `import` does. Raises InputError, with file and line, for
    code that cannot be imported.
    """
    if is_file(entry):
        identity = identity_of(folder, entry)
        return Loaded(_load_file(_path(folder, entry), identity), identity)
    _check_module_name(entry)
    module = _import_module(entry)
    return Loaded(module, identity_of(folder, entry))


def _import_module(entry: str) -> ModuleType:
    try:
        return importlib.import_module(entry)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if entry == missing or entry.startswith(f"{missing}."):
            raise InputError(Problem(f"no module {entry!r} is installed", hint=INSTALL)) from error
        raise InputError(_import_problem(error, Path(entry))) from error
    except Exception as error:
        raise InputError(_import_problem(error, Path(entry))) from error


def _check_module_name(entry: str) -> None:
    if ":" in entry and all(part.isidentifier() for part in entry_of(entry).split(".")):
        hint = f"code: takes the whole file or module, {entry_of(entry)}"
        raise InputError(Problem(f"{entry} names a part of a module", hint=hint))
    if not all(part.isidentifier() for part in entry.split(".")):
        hint = "my_net.py is a file beside the experiment file, my_package.nets a module"
        raise InputError(
            Problem(f"{entry} names no file that ends in .py and no module", hint=hint)
        )


def _path(folder: Path, entry: str) -> Path:
    path = (folder / entry).resolve()
    if not path.is_relative_to(folder.resolve()):
        rule = f"{entry} lies outside the experiment file's folder"
        raise InputError(Problem(rule, hint="code is read from beside or below that file"))
    if not path.is_file():
        names = sorted(str(p.relative_to(folder.resolve())) for p in folder.resolve().glob("*.py"))
        hint = did_you_mean(entry, names, most=MAX_NAMES)
        raise InputError(Problem(f"no file {entry}", hint=hint))
    return path


@cache
def _load_file(path: Path, _identity: str) -> ModuleType:
    """Runs a file as a module, again if it or a file that it imports has changed. The file's folder
    is searched first for what it imports."""
    _forget_modules_of(path.parent)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(Problem(f"{path.name} cannot be read as Python"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with searched_first(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(_import_problem(error, path)) from error
    _check_names(path, module)
    return module


def _check_names(path: Path, module: ModuleType) -> None:
    """Raises InputError if a component has the name of one above it, which it would replace."""
    lines: dict[str, int] = {}
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.decorator_list:
            if node.name in lines and hasattr(vars(module).get(node.name), MARK):
                what = f"{node.name} is defined in line {lines[node.name]} too"
                hint = "Python keeps the last one alone: give one another name"
                raise InputError(Problem(what, f"{path.name}:{node.lineno}", hint))
            lines[node.name] = node.lineno


def _forget_modules_of(folder: Path) -> None:
    """Lets the modules of a folder be imported again, as their files may have changed."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and Path(file).parent == folder:
            del sys.modules[name]


def _module_name(path: Path) -> str:
    """Returns a name that pickled classes are found by, in worker processes too: the file's own
    where it is free."""
    loaded = sys.modules.get(path.stem)
    is_free = loaded is None or getattr(loaded, "__file__", None) == str(path)
    if is_free and path.stem.isidentifier() and path.stem not in sys.stdlib_module_names:
        return path.stem
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


@contextmanager
def searched_first(folder: Path) -> Iterator[None]:
    """While entered, imports look in this folder first; later they find it too, at the end."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _syntax_problem(error: SyntaxError, entry: str = "") -> Problem:
    name = Path(error.filename or entry).name
    line = f":{error.lineno}" if error.lineno else ""
    return Problem(f"is not valid Python: {error.msg}", where=f"{name}{line}")


def _import_problem(error: BaseException, path: Path) -> Problem:
    """Returns the problem of code that raised while it was imported, at the user's own line."""
    if isinstance(error, SyntaxError):
        return _syntax_problem(error)
    where = line_of(error, path.parent) or path.name
    is_relative = isinstance(error, ImportError) and "relative import" in str(error)
    hint = "import the files beside it by name: from blocks import Block" if is_relative else ""
    return Problem(f"cannot be imported: {type(error).__name__}: {error}", where=where, hint=hint)


def line_of(error: BaseException, folder: Path) -> str:
    """Returns the innermost line of a folder's files in which an error was raised, "my_net.py:12";
    "" if there is none. Installed packages below the folder do not count."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder) and not is_installed(path):
            return f"{path.relative_to(folder)}:{frame.lineno}"
    return ""


def folder_of(target: Any) -> Path | None:
    """Returns the folder of the file that defines a class or a function; None of what a notebook, a
    shell or the script that runs defines, as a worker process knows no file of it."""
    if getattr(target, "__module__", "") == "__main__":
        return None
    try:
        return Path(inspect.getfile(inspect.unwrap(target))).resolve().parent
    except (TypeError, OSError):
        return None


@contextmanager
def told_with_line(what: str, target: Any, hint: str = "") -> Iterator[None]:
    """Raises InputError with the user's own line for whatever a class or a function raises.

    what: it is, "dataset noise". hint: for errors that are not the harness's.
    """
    try:
        yield
    except InputError as error:
        place = place_of(target)
        problems = [Problem(f"{what}: {p.what}", p.where or place, p.hint) for p in error.problems]
        raise InputError(problems) from error
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        line = line_of(error, folder_of(target) or Path.cwd()) or place_of(target)
        problem = Problem(f"{what}: {type(error).__name__}: {error}", line, hint)
        raise InputError(problem) from error


def place_of(target: Any) -> str:
    """Returns where a class or a function is defined, "my_net.py:12"; "" if it is not known."""
    try:
        _, line = inspect.getsourcelines(inspect.unwrap(target))
        return f"{Path(inspect.getfile(inspect.unwrap(target))).name}:{line}"
    except (TypeError, OSError):
        return ""
