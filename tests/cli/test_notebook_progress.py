"""The line of progress in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.cli.progress import NotebookLine, ProgressState, print_line, progress_display
from harness.core.metrics import Goal
from harness.core.records import Ended, Outcome, Started


class Output:
    """The output of a cell: the texts that one display has shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, content: dict[str, str], raw: bool, display_id: bool) -> Output:
        assert raw
        assert display_id
        self.update(content, raw)
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        self.shown.append(content["text/plain"])


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    output = Output()
    package = ModuleType("IPython")
    package.display = SimpleNamespace(display=output.display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    return output


def test_one_line_changes(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_jupyter=True)
    display = progress_display(console, total=1000)
    assert isinstance(display, NotebookLine)
    state = ProgressState(1000, Goal("val/loss", "min"))
    with display:
        for number in range(1000):
            planned: Any = SimpleNamespace(trial_id=str(number), name=f"trial {number}")
            outcome = Outcome.FAILED if number == 500 else Outcome.DONE
            for record in (Started({}), Ended(outcome, {}, "it broke")):
                state.add(planned, record)
                display.show(state, planned, record)
    assert output.shown[-1] == "1000/1000 trials; 999 done, 1 failed"
    assert len(output.shown) < 100
    assert capsys.readouterr().out == "failed: trial 500: it broke\n"


def test_lines_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    line = "[bold]a line[/bold] " * 20
    for console in (Console(force_jupyter=True), Console()):
        print_line(console, line)
        assert capsys.readouterr().out.rstrip("\n") == line.rstrip("\n")
