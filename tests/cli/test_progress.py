"""Progress of a sweep, on a terminal and without one."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from harness.cli.progress import ProgressBar, ProgressLines, ProgressState, progress_display
from harness.core.metrics import Goal
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.experiment.plan import PlannedTrial
from tests.support import make_trial

GOAL = Goal("val/accuracy", "max")


def planned(name: str) -> PlannedTrial:
    return PlannedTrial(make_trial(), name, "config", name, {})


def records(value: float, outcome: Outcome = Outcome.DONE) -> list[Record]:
    measured = Measured(1, {"val/accuracy": value}, 10)
    return [Started({}), measured, Ended(outcome, {}, reason="because")]


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def play(console: Console, trials: dict[str, list[Record]]) -> ProgressState:
    state = ProgressState(len(trials), GOAL)
    with progress_display(console, len(trials)) as shown:
        for name, found in trials.items():
            for record in found:
                state.add(planned(name), record)
                shown.show(state, planned(name), record)
    return state


def test_the_state_counts_outcomes_and_knows_the_best() -> None:
    trials = {"a": records(0.5), "b": records(0.9), "c": records(0.99, Outcome.DIVERGED)}
    state = play(Console(file=io.StringIO()), trials)
    assert state.ended == 3
    assert state.counts() == "2 done, 1 diverged"
    assert state.best_so_far() == "best val/accuracy 0.9000 (b)", "a diverged trial never leads"


def test_lower_is_better_where_the_goal_says_so() -> None:
    state = ProgressState(2, Goal("val/accuracy", "min"))
    for name, value in (("a", 0.5), ("b", 0.9)):
        for record in records(value):
            state.add(planned(name), record)
    assert state.best == (0.5, "a")


def test_plain_lines_report_failures_at_once_and_the_end() -> None:
    console = Console(file=io.StringIO(), width=200)
    assert isinstance(progress_display(console, 1), ProgressLines)
    play(console, {"a": records(0.5, Outcome.FAILED), "b": records(0.9)})
    lines = told(console).splitlines()
    assert lines[0] == "failed: a: because"
    assert lines[-1] == "2/2 trials; 1 done, 1 failed; best val/accuracy 0.9000 (b)"
    assert len(lines) == 2, "between them nothing, within the shortest time of two lines"


def test_plain_lines_report_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    console = Console(file=io.StringIO(), width=200)
    play(console, {name: records(0.5) for name in "abcdefgh"})
    lines = told(console).splitlines()
    # A trial takes three records of 100 s each, and six are left after the second.
    (fourth,) = (line for line in lines if line.startswith("4/8 trials; 4 done; "))
    assert fourth.endswith("about 1200 s left")
    assert not any("left" in line for line in lines if line.startswith("1/8"))


def test_names_are_not_markup() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    play(console, {"mlp(hidden=[64]) [red]": records(0.5, Outcome.FAILED)})
    assert "mlp(hidden=[64]) [red]" in told(console)


def test_a_terminal_gets_a_live_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    assert isinstance(progress_display(console, 2), ProgressBar)
    play(console, {"a": records(0.5), "b": records(0.9)})
    assert "2/2" in told(console)
    assert "best val/accuracy 0.9000 (b)" in told(console)
