"""Output that is not UTF-8, or is closed."""

from __future__ import annotations

import importlib
import io
import sys
from types import ModuleType

import pytest

from harness.__main__ import COMMANDS
from harness.cli.flags import OK, run_command

TEXT = "0.98 ± 0.01 – größer, 日本, \udcff"
"""With a lone surrogate, as in the name of a file that is not UTF-8."""
MODULES = [name for name in COMMANDS if name != "components"]


def stdout(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """Replaces standard output by one of this encoding."""
    written = io.BytesIO()
    wrapper = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", wrapper)
    return written


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("name", MODULES)
def test_no_command_ends_in_an_error_where_the_encoding_lacks_a_character(
    monkeypatch: pytest.MonkeyPatch, name: str, encoding: str
) -> None:
    command: ModuleType = importlib.import_module(f"harness.{name}")

    def speak(argv: object) -> int:
        print(TEXT)
        return OK

    monkeypatch.setattr(command, "_main", speak)
    written = stdout(monkeypatch, encoding)

    assert command.main([]) == OK

    expected = "".join(character if _has(encoding, character) else "?" for character in TEXT)
    assert written.getvalue().decode(encoding) == f"{expected}\n"


def test_closed_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    def speak(argv: object) -> int:
        print(TEXT)
        return int(sys.stdout.isatty())

    assert run_command(speak, []) == OK


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
