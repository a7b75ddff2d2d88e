"""How a command ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli.flags import run_command


def fails(_argv: Sequence[str]) -> int:
    raise ModuleNotFoundError("No module named 'html.entities'; 'html' is not a package")


def test_a_file_that_hides_pythons_own_module_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").touch()
    with pytest.raises(ModuleNotFoundError):
        run_command(fails, [])
    (tmp_path / "html.py").touch()
    assert run_command(fails, []) == 2
    told = capsys.readouterr().err
    assert "error: ModuleNotFoundError: No module named 'html.entities'" in told
    assert "html.py is in this folder" in told
    assert "my_net.py" not in told
