"""What changes the identity of a class or a function of a notebook's cell, and what does not."""

from __future__ import annotations

import linecache
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.components.code.object_identity import object_identity, used_by
from harness.components.code.objects import give, split_partial
from harness.components.code.places import find_place, is_importable
from harness.components.code.source import folder_of
from harness.core.errors import InputError

NET = '''
import torch
from torch import nn

WIDTHS = [8, 16]

def width_of(place):
    return WIDTHS[place]

class Base(nn.Module):
    def scale(self):
        return 2

class Net(Base):
    """A network."""

    def __init__(self, data, depth=1):
        super().__init__()
        self.layer = nn.Linear(data, width_of(depth))  # one layer

    @torch.no_grad()
    def forward(self, x):
        return self.layer(x) * self.scale()
'''


class Cells:
    """Runs sources as a notebook does: in one namespace, each with a file name of its own."""

    numbers = count()

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str, known: bool = True) -> Cells:
        """known: whether Python can show the source later."""
        name = f"<cell {next(self.numbers)}>"
        if known:
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), self.namespace)
        return self

    def identity(self, name: str = "Net") -> str:
        return object_identity(self.namespace[name])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("# one layer", "# a single layer", id="comment"),
        pytest.param('"""A network."""', '"""Another text."""', id="docstring"),
        pytest.param('    """A network."""\n', "", id="no docstring"),
        pytest.param("\nclass Base", "\n\n\n\nclass Base", id="lines"),
        pytest.param("depth=1", "depth = 1", id="layout"),
        pytest.param("WIDTHS = [8, 16]", "WIDTHS = [8, 16]\nUNUSED = 3", id="unused constant"),
    ],
)
def test_stays(before: str, after: str) -> None:
    assert before in NET
    edited = NET.replace(before, after)
    assert Cells().run(edited).identity() == Cells().run(NET).identity()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("depth=1", "depth=0", id="default"),
        pytest.param("self.layer(x) *", "self.layer(x) +", id="decorated method"),
        pytest.param("[8, 16]", "[8, 17]", id="constant of a helper"),
        pytest.param("WIDTHS[place]", "WIDTHS[-place]", id="helper"),
        pytest.param("return 2", "return 3", id="base class"),
        pytest.param("@torch.no_grad()", "@torch.enable_grad()", id="decorator"),
        pytest.param("nn.Linear(", "torch.nn.LazyLinear(", id="another layer"),
        pytest.param("class Net(Base):", "class Net(Base):\n    bias = True", id="attribute"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["source", "no source"])
def test_changes(before: str, after: str, known: bool) -> None:
    assert before in NET
    edited = Cells().run(NET.replace(before, after), known)
    assert edited.identity() != Cells().run(NET, known).identity()


def test_running_a_cell_again_changes_nothing() -> None:
    cells = Cells().run(NET)
    before = cells.identity()
    assert cells.run(NET).identity() == before


def test_a_helper_of_another_cell_counts_as_it_is_now() -> None:
    cells = Cells().run(NET)
    before = cells.identity()
    assert cells.run("def width_of(place): return 5").identity() != before
    assert cells.run("\n\ndef width_of(place):\n    return WIDTHS[place]").identity() == before


def test_a_function_may_call_itself() -> None:
    source = "def f(n): return g(n - 1)\ndef g(n): return f(n) if n else {}"
    first, second = (Cells().run(source.format(end)).identity("f") for end in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("torch.tensor([1., 2.])", "torch.tensor([1., 3.])"),
        ("numpy.arange(3)", "numpy.arange(3.)"),
        ("{'a': (1, 2)}", "{'a': (1, 3)}"),
        ("{1, 2}", "{1, 3}"),
        ("torch.nn.Linear(2, 2).eval()", "torch.nn.Linear(2, 3).eval()"),
        ("functools.partial(max, 1)", "functools.partial(max, 2)"),
        ("(lambda x: x + 1)", "(lambda x: x + 2)"),
        ("math.sin", "math.cos"),
    ],
)
def test_values_of_other_cells_count(value: str, other: str) -> None:
    def identity(text: str) -> str:
        torch.manual_seed(0)
        source = "import functools, math, numpy, torch\nVALUE = {}\ndef f(x): return VALUE"
        return Cells().run(source.format(text)).identity("f")

    assert identity(value) == identity(value)
    assert identity(value) != identity(other)


def test_what_is_captured_counts() -> None:
    source = "def make(width):\n    def net(data): return width\n    return net\n"
    three, four = (Cells().run(f"{source}net = make({n})").identity("net") for n in (3, 4))
    assert three != four


def test_a_local_module_counts_by_its_syntax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "import blocks_of_a_test\ndef f(x): return blocks_of_a_test.g(x)"
    identities = []
    for text in ("def g(x): return 1", "def g(x): return 1  # a comment", "def g(x): return 2"):
        (tmp_path / "blocks_of_a_test.py").write_text(text)
        identities.append(Cells().run(source).identity("f"))
    del sys.modules["blocks_of_a_test"]
    first, commented, changed = identities
    assert first == commented != changed


@pytest.mark.slow
def test_the_identity_is_that_of_another_process(tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    ask = "from harness.components.code.object_identity import object_identity as ask\n"
    script.write_text(f"{NET}\n{ask}print(ask(Net))\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == Cells().run(NET).identity()


def test_the_source_that_is_stored_has_what_it_uses() -> None:
    text = used_by(Cells().run(NET).namespace["Net"]).text
    assert "class Net(Base):" in text
    assert "class Base(nn.Module):" in text
    assert "def width_of(place):" in text
    assert "@torch.no_grad()" in text


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a file beside a script."""
    (tmp_path / "nets_of_a_test.py").write_text("class Net:\n    def f(self):\n        return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("nets_of_a_test")
    del sys.modules["nets_of_a_test"]


def test_an_object_of_a_file_has_the_name_that_a_file_would_write(
    module: ModuleType, tmp_path: Path
) -> None:
    given = give("models", module.Net, tmp_path)
    assert given.name == "nets_of_a_test.py:Net"
    assert given.is_importable
    assert give("models", module.Net, tmp_path / "elsewhere").name == "nets_of_a_test.py:Net"


def test_a_file_that_changed_after_its_import_is_refused(
    module: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "nets_of_a_test.py"
    file.write_text('"""A docstring."""\n' + file.read_text())
    give("models", module.Net, tmp_path)
    file.write_text(file.read_text().replace("return 1", "return 2"))
    with pytest.raises(InputError, match="has changed since Net was imported"):
        give("models", module.Net, tmp_path)


def test_a_worker_that_finds_other_code_refuses_it(module: ModuleType, tmp_path: Path) -> None:
    program = (
        "import pickle, sys\n"
        "given = pickle.load(sys.stdin.buffer)\n"
        "try: print(given.load())\n"
        "except Exception as error: print(error)\n"
    )
    pickled = pickle.dumps(give("models", module.Net, tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def load() -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, input=pickled, env=environment, capture_output=True)
        return done.stdout.decode()

    assert "nets_of_a_test.Net" in load()
    (tmp_path / "nets_of_a_test.py").write_text("class Net:\n    def f(self):\n        return 2\n")
    assert "has changed since the trial was planned" in load()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (torch.optim.SGD, "torch.optim:SGD"),
        (torch.nn.CrossEntropyLoss, "torch.nn:CrossEntropyLoss"),
        (torch.nn.functional.cross_entropy, "torch.nn.functional:cross_entropy"),
    ],
)
def test_an_object_of_a_package_has_the_place_that_people_know(target: Any, name: str) -> None:
    place = find_place(target)
    assert f"{place.module}:{place.name}" == name
    assert is_importable(target)


def test_a_class_of_a_functions_body_is_sent_by_its_value() -> None:
    class Net:
        pass

    given = give("models", Net, Path.cwd())
    assert given.name == "Net"
    assert not given.is_importable
    assert given.load() is Net, "loading it where it is defined must not change it"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda data: None, "a lambda has no name"),
        (partial(max, 1), "by name"),
    ],
)
def test_objects_without_names_are_refused(target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        give("models", split_partial(target)[0], Path.cwd())


def test_what_a_notebook_defines_lies_in_no_folder() -> None:
    for known in (True, False):
        net = Cells().run(NET, known).namespace["Net"]
        assert folder_of(net) is None
    assert folder_of(Cells) == Path(__file__).parent


def test_what_cannot_be_sent_is_told() -> None:
    lock = threading.Lock()

    def net(data: Any) -> Any:
        return lock

    with pytest.raises(InputError, match="net cannot be sent to worker processes"):
        give("models", net, Path.cwd())
