"""Imports run one way without cycles, and each heavy library is used in one room only.

Read from the source, imports inside functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness.components.base import KINDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harness"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("components",),
    ("experiment",),
    ("training", "store", "cli"),
    ("execution", "analysis"),
    ("tuning", "report", "inference", "diagnostics"),
    ("runner",),
    ("sweep", "search", "compare", "predict", "doctor", "check"),
    ("api",),
    ("__main__", "__init__"),
)
"""Rooms, lowest first. A room imports those below it and itself, never one beside or above."""

RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
KEEPERS = {"mlflow": ("harness/store/",), "optuna": ("harness/tuning/", "harness/runner/")}
HEAVY = ("torch", "torchvision", "mlflow", "sklearn", "pandas", "matplotlib", "plotly", "scipy")
"""Not imported by what `--help` and `--dry-run` reach, except inside a function."""
LIGHT = (
    "core",
    "components",
    "experiment",
    "sweep",
    "search",
    "compare",
    "predict",
    "doctor",
    "check",
    "__main__",
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module by its full name, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_every_room_has_its_place() -> None:
    rooms = {room(path) for path in modules()}
    assert rooms <= set(RANK), f"give {rooms - set(RANK)} a place in LAYERS"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    here = room(path)
    for name, line in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "harness" or len(parts) < 2 or parts[1] not in RANK:
            continue
        there = parts[1]
        allowed = there == here or RANK[there] < RANK[here]
        assert allowed, f"{path.relative_to(ROOT)}:{line} imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_have_one_keeper(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    for name, line in imports(ast.parse(path.read_text())):
        for library, places in KEEPERS.items():
            if name.split(".")[0] == library:
                assert relative.startswith(places), f"{relative}:{line} imports {name}"


def test_no_component_imports_another() -> None:
    shared = ("harness.components.base", "harness.components.shared")
    for kind in KINDS:
        for path in (PACKAGE / "components" / kind).glob("*.py"):
            for name, line in imports(ast.parse(path.read_text())):
                allowed = name.startswith(shared) or not name.startswith("harness.components")
                assert allowed, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in LIGHT], ids=str)
def test_light_rooms_import_heavy_libraries_only_in_functions(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, line in imports(ast.Module([node], [])):
                assert name.split(".")[0] not in HEAVY, f"{path}:{line} imports {name}"


def test_there_are_at_most_ten_layers() -> None:
    assert len(LAYERS) <= 10


def test_store_and_execution_do_not_import_each_other() -> None:
    for here, there in (("store", "execution"), ("execution", "store")):
        for path in (PACKAGE / here).rglob("*.py"):
            for name, line in imports(ast.parse(path.read_text())):
                assert not name.startswith(f"harness.{there}"), f"{path}:{line} imports {name}"


def test_no_files_import_each_other_in_a_cycle() -> None:
    """Imports inside functions count; those under TYPE_CHECKING do not, as they never run."""
    files = {module_name(path): path for path in modules()}
    graph = {name: set(imported_files(path, files)) - {name} for name, path in files.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_files(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports when it runs."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    for name, _ in imports(tree):
        parts = name.split(".")
        prefixes = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
        if (file := next((prefix for prefix in prefixes if prefix in files), None)) is not None:
            yield file
