"""The table of faults names tests that exist, for every fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = {
    int(number): row
    for number, row in re.findall(
        r"^\| (\d+) \| (.*) \|$", (ROOT / "docs" / "survive.md").read_text(), re.MULTILINE
    )
}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`( \(slow\))?")


@cache
def functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def is_slow(path: Path, name: str) -> bool:
    marks = [ast.unparse(mark) for mark in functions(path)[name].decorator_list]
    whole = re.search(r"^pytestmark = .*slow", path.read_text(), re.MULTILINE)
    return "pytest.mark.slow" in marks or whole is not None


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == list(range(1, 29))


@pytest.mark.parametrize("number", sorted(ROWS))
def test_what_a_row_names_exists_and_is_as_slow_as_it_says(number: int) -> None:
    named = NAMED.findall(ROWS[number])
    assert named
    assert ROWS[number].count("::") == len(named)
    for file, name, slow in named:
        path = ROOT / file
        assert path.is_file(), f"there is no {file}"
        assert name in functions(path), f"{file} has no {name}"
        assert is_slow(path, name) == bool(slow), f"{name} is marked otherwise"
