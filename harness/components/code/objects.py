"""Classes and functions that Python code gives in place of a component's name.

One that another process can import is sent by its name, any other by its value. A worker process
that finds other code than the parent did refuses it.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

from harness.components.code.identity import Sources, file_sources, package_sources
from harness.components.code.object_identity import object_identity, used_by
from harness.components.code.places import Place, find_place, is_importable
from harness.components.code.source import MARK, Declared, entry_of, searched_first
from harness.core.errors import InputError, Problem

LAMBDA: Final = "<lambda>"


@dataclass(frozen=True, slots=True)
class GivenObject:
    """A class or a function, and the name that stands for it.

    identity: of its code. pickled: how another process gets it. root: the folder from which its
    module is imported; "" if it is installed or sent by value.
    """

    kind: str
    name: str
    identity: str
    pickled: bytes = field(repr=False)
    root: str = ""

    def load(self) -> Any:
        """Returns the object. Raises InputError if it cannot be loaded in this process, or if its
        code is not what it was where it was given."""
        if self in _given_here:
            return _given_here[self]
        try:
            with searched_first(Path(self.root)) if self.root else nullcontext():
                target = pickle.loads(self.pickled)  # noqa: S301 - the parent process has sent it
        except Exception as error:
            what = f"{self.name} cannot be loaded: {type(error).__name__}: {error}"
            raise InputError(Problem(what)) from error
        if self.root and _place_sources(find_place(target)).identity() != self.identity:
            raise InputError(f"the code of {self.name} has changed since the trial was planned")
        _given_here[self] = target
        return target

    @property
    def is_importable(self) -> bool:
        """Whether it is sent by its name, and not by its value."""
        return is_importable(self.load())

    def entry(self, folder: Path) -> str:
        """Returns the file or the module that it comes from, as an experiment file would name it;
        the name of an object that comes from none."""
        target = self.load()
        return entry_of(_reference(find_place(target), folder)) if self.is_importable else self.name

    def sources(self) -> Sources:
        """Returns the files and the packages that it uses."""
        target = self.load()
        return _place_sources(find_place(target)) if self.is_importable else used_by(target).sources

    def text(self) -> str:
        """Returns the source of an object that is sent by its value."""
        return used_by(self.load()).text

    @property
    def details(self) -> dict[str, Any]:
        """What its decorator says of it."""
        mark = mark_of(self.load())
        return dict(mark.details) if mark else {}


_given_here: dict[GivenObject, Any] = {}
"""The objects of this process. To unpickle a class in the process that defined it would change that
class."""


def mark_of(target: Any) -> Declared | None:
    """Returns what a decorator noted on an object itself, not on a base class of it."""
    mark = getattr(target, "__dict__", {}).get(MARK)
    return mark if isinstance(mark, Declared) else None


def is_component_object(value: Any) -> bool:
    """Whether a value may stand where a component's name does."""
    return inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, partial)


def split_partial(value: Any) -> tuple[Any, dict[str, Any]]:
    """Returns what a `functools.partial` calls, and its arguments as options. Raises InputError if
    some have no name."""
    options: dict[str, Any] = {}
    while isinstance(value, partial):
        if value.args:
            raise InputError("a partial must give its arguments by name")
        options = {**value.keywords, **options}
        value = value.func
    return value, options


def give(kind: str, target: Any, folder: Path) -> GivenObject:
    """Returns a class or a function as a component of this kind.

    folder: the paths of files in names start there. Raises InputError if it has no name, is
    declared to be of another kind, cannot be sent to other processes, or is older than its file.
    """
    mark = mark_of(target)
    _require_kind(kind, target)
    if mark is not None and mark.kind != kind:
        raise InputError(f"{target.__name__} is declared to be one of the {mark.kind}")
    name = mark.name if mark else str(getattr(target, "__name__", LAMBDA))
    if name == LAMBDA:
        raise InputError(Problem("a lambda has no name", hint="define it with def"))
    if not is_importable(target):
        return _keep(
            target, GivenObject(kind, name, object_identity(target), _pickle_value(target))
        )
    place = find_place(target)
    _require_current(target, place)
    if mark is None and kind != "metrics":
        name = _reference(place, folder)
    identity, root = _place_sources(place).identity(), str(place.root or "")
    return _keep(target, GivenObject(kind, name, identity, pickle.dumps(target), root))


def _keep(target: Any, given: GivenObject) -> GivenObject:
    _given_here[given] = target
    return given


def _require_kind(kind: str, target: Any) -> None:
    """Raises InputError for a class of torch's that is plainly of another kind."""
    import torch

    bases = {
        "optimizers": torch.optim.Optimizer,
        "datasets": torch.utils.data.Dataset,
        "schedulers": torch.optim.lr_scheduler.LRScheduler,
    }
    for other, base in bases.items():
        if other != kind and inspect.isclass(target) and issubclass(target, base):
            raise InputError(f"{target.__name__} is one of the {other}, a torch {base.__name__}")


def _reference(place: Place, folder: Path) -> str:
    """Returns the name that an experiment file would write: "my_net.py:Net"."""
    if place.lone_file is None:
        return f"{place.module}:{place.name}"
    file, folder = place.lone_file.resolve(), folder.resolve()
    within = file.relative_to(folder) if file.is_relative_to(folder) else Path(file.name)
    return f"{within.as_posix()}:{place.name}"


def _place_sources(place: Place) -> Sources:
    file = place.lone_file
    return file_sources(file) if file else package_sources(place.module)


def _pickle_value(target: Any) -> bytes:
    """Pickles an object by its value, with what it uses of its module."""
    import cloudpickle

    try:
        with _by_value(target):
            pickled: bytes = cloudpickle.dumps(target)
    except Exception as error:
        what = f"{target.__name__} cannot be sent to worker processes: {error}"
        hint = "let it make what it uses, or put it into a file"
        raise InputError(Problem(what, hint=hint)) from error
    return pickled


@contextmanager
def _by_value(target: Any) -> Iterator[None]:
    """While entered, the module of an object is pickled by value too, where no other process could
    import it."""
    import cloudpickle

    module = inspect.getmodule(target)
    known = module is None or module.__name__ == "__main__" or is_importable(module.__name__)
    if module is None or known:
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _require_current(target: Any, place: Place) -> None:
    """Raises InputError if an object's file has changed since it was imported: the harness would
    train code that is not what the file says."""
    if place.file is None or place.is_installed or place.file.suffix != ".py":
        return
    try:
        module = compile(place.file.read_bytes(), str(place.file), "exec")
    except SyntaxError as error:
        what = f"is not valid Python: {error.msg}"
        raise InputError(Problem(what, where=f"{place.file.name}:{error.lineno}")) from error
    now = {code.co_qualname: _shape(code) for code in _codes(module)}
    for function in _own_functions(target):
        code = inspect.unwrap(function).__code__
        same_file = Path(code.co_filename) == place.file
        if same_file and now.get(code.co_qualname) != _shape(code):
            what = f"{place.file.name} has changed since {target.__name__} was imported"
            hint = "import it again (importlib.reload), or restart Python"
            raise InputError(Problem(what, hint=hint))


def _own_functions(target: Any) -> Iterator[FunctionType]:
    members = vars(target).values() if inspect.isclass(target) else (target,)
    for member in members:
        function = getattr(member, "__func__", member)
        if isinstance(function, FunctionType):
            yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _shape(code: CodeType) -> Any:
    """Returns what code does, without its lines and its texts, docstrings among them."""
    constants = [c for c in code.co_consts if not isinstance(c, (CodeType, str))]
    inner = [_shape(c) for c in code.co_consts if isinstance(c, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, repr(constants), inner
