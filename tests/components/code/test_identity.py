"""What changes the identity of a user's code, and what does not."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from harness.components.code import identity
from harness.components.code.identity import file_identity, package_identity

ROOT = Path(__file__).resolve().parents[3]

NET = '''"""A net."""
import helper
from torch import nn


class Net(nn.Module):
    """Two layers."""

    def __init__(self, width=64):
        super().__init__()
        self.layer = nn.Linear(width, helper.OUTPUTS)  # the last one
'''
HELPER = "OUTPUTS = 10\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


def edited(folder: Path, name: str, old: str, new: str) -> str:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return file_identity(folder / "net.py")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("net.py", "  # the last one", "  # another comment"),
        ("net.py", '"""Two layers."""', '"""Three layers."""'),
        ("net.py", '    """Two layers."""\n', ""),
        ("net.py", '"""A net."""\n', "\n\n\n"),
        ("net.py", "nn.Linear(width, helper.OUTPUTS)", "nn.Linear(\n    width, (helper.OUTPUTS))"),
        ("helper.py", "OUTPUTS = 10", "# ten digits\nOUTPUTS = 0xA"),
    ],
    ids=["comment", "docstring", "no docstring", "module docstring", "layout", "helper's comment"],
)
def test_what_runs_alike_has_the_same_identity(folder: Path, name: str, old: str, new: str) -> None:
    before = file_identity(folder / "net.py")
    assert edited(folder, name, old, new) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("net.py", "width=64", "width=65"),
        ("net.py", "self.layer", "self.last"),
        ("net.py", "super().__init__()", "nn.Module.__init__(self)"),
        ("net.py", 'Two layers."""', 'Two layers."""; x = 1'),
        ("helper.py", "10", "11"),
        ("helper.py", "OUTPUTS", "import other\nOUTPUTS"),
    ],
    ids=["default", "name", "call", "statement", "helper's value", "helper's import"],
)
def test_what_may_run_otherwise_has_another_identity(
    folder: Path, name: str, old: str, new: str
) -> None:
    (folder / "other.py").write_text("A = 1\n")
    before = file_identity(folder / "net.py")
    assert edited(folder, name, old, new) != before


def test_a_text_that_is_no_docstring_counts(folder: Path) -> None:
    (folder / "net.py").write_text("X = 'a'\n'b'\n")
    before = file_identity(folder / "net.py")
    assert edited(folder, "net.py", "'b'", "'c'") != before


def test_a_file_can_be_moved_and_renamed(folder: Path, tmp_path_factory) -> None:
    before = file_identity(folder / "net.py")
    other = tmp_path_factory.mktemp("other")
    (other / "renamed.py").write_text(NET)
    (other / "helper.py").write_text(HELPER)
    assert file_identity(other / "renamed.py") == before


def test_a_module_of_a_package_beside_the_file_counts(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from parts.layers import Block\nimport parts.unused as u\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "layers.py").write_text("from . import sizes\nfrom .sizes import B\n")
    (tmp_path / "parts" / "sizes.py").write_text("B = 1\n")
    (tmp_path / "parts" / "stranger.py").write_text("C = 1\n")
    before = file_identity(tmp_path / "net.py")
    (tmp_path / "parts" / "stranger.py").write_text("C = 2\n")
    assert file_identity(tmp_path / "net.py") == before
    (tmp_path / "parts" / "sizes.py").write_text("B = 2\n")
    assert file_identity(tmp_path / "net.py") != before


def test_files_that_import_each_other_have_an_identity(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import a\n")
    (tmp_path / "a.py").write_text("import b\n")
    (tmp_path / "b.py").write_text("import a\nX = 1\n")
    before = file_identity(tmp_path / "net.py")
    (tmp_path / "b.py").write_text("import a\nX = 2\n")
    assert file_identity(tmp_path / "net.py") != before


def test_another_version_of_an_installed_package_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "helper.py").write_text("import hypothesis\nOUTPUTS = 10\n")
    before = file_identity(folder / "net.py")
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.1" if n == "hypothesis" else real(n))
    assert file_identity(folder / "net.py") != before


def test_what_the_harness_requires_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's provenance has the version of torch: another one does not start all trials again."""
    before = file_identity(folder / "net.py")
    monkeypatch.setattr(metadata, "version", lambda _name: "0.1")
    assert file_identity(folder / "net.py") == before


def test_the_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]}  # type: ignore[index]
    assert names == identity.REQUIRED


def test_a_module_is_known_by_its_package() -> None:
    assert package_identity("hypothesis.strategies") == package_identity("hypothesis")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        package_identity("no_such_package.part")


def test_a_module_on_the_path_that_is_not_installed_is_known_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "editable_package.py").write_text("X = 1\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = package_identity("editable_package")
    (tmp_path / "editable_package.py").write_text("X = 2\n")
    assert package_identity("editable_package") != before


def test_the_identity_is_the_same_for_all_versions_of_python(tmp_path: Path) -> None:
    """Python 3.12 gave functions and classes `type_params`, 3.13 leaves out empty fields."""
    (tmp_path / "net.py").write_text("class A:\n    def f(self, x: int = 1, *a, **k): return x\n")
    assert file_identity(tmp_path / "net.py") == "f00e9f0786f850e8"
