"""Progress of a sweep or a search: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.core.metrics import Goal, best_epoch
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.core.text import format_score, plural
from harness.experiment.plan import PlannedTrial

LINE_SECONDS = 10.0
"""Shortest time between two plain lines."""
UPDATE_SECONDS = 0.5
"""Shortest time between two changes of the line in a notebook."""
TRIALS_BEFORE_ESTIMATE = 4
"""Trials that must have ended before the remaining time is estimated."""


@dataclass(slots=True)
class ProgressState:
    """What has happened so far: outcomes, running trials and the best value."""

    total: int
    goal: Goal
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    running: dict[str, list[Measured]] = field(default_factory=dict)
    best: tuple[float, str] | None = None
    _resumptions: Counter[str] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        return sum(self.outcomes.values())

    def add(self, planned: PlannedTrial, record: Record) -> None:
        """Adds one record of a trial."""
        history = self.running.setdefault(planned.trial_id, [])
        if isinstance(record, Started):
            self._resumptions.update(_resumption(record))
        if isinstance(record, Measured):
            history.append(record)
        if isinstance(record, Ended):
            del self.running[planned.trial_id]
            self.outcomes[record.outcome] += 1
            best = best_epoch(history, self.goal)
            if record.outcome is Outcome.DONE and best is not None:
                value = best.values[self.goal.metric]
                if self.best is None or self.goal.better(value, self.best[0]):
                    self.best = (value, planned.name)

    def counts(self) -> str:
        """Returns "40 done, 1 diverged, 2 running", without the counts that are 0."""
        parts = [f"{n} {outcome}" for outcome, n in self.outcomes.items() if n]
        if self.running:
            parts.append(f"{len(self.running)} running")
        return ", ".join(parts) or "starting"

    def best_so_far(self) -> str:
        """Returns "best val/accuracy 0.9821 (mlp adam lr=0.01)", or "" if no trial is done."""
        if self.best is None:
            return ""
        value, name = self.best
        return f"best {self.goal.metric} {format_score(value)} ({name})"

    def parts(self) -> list[str]:
        """Returns what a line says: how many trials ended, outcomes, the best value."""
        return [f"{self.ended}/{self.total} trials", self.counts(), self.best_so_far()]

    def resumptions(self) -> list[str]:
        """Returns lines that say how many trials were resumed, and why others were not."""
        return [f"{how}: {plural(n, 'trial')}" for how, n in self._resumptions.items()]


def _resumption(started: Started) -> Iterator[str]:
    metadata = started.metadata
    if "resumed" in metadata:
        yield "resumed from a checkpoint"
    elif "continued_from" in metadata:
        yield f"continued from {plural(int(metadata['continued_from']), 'epoch')}"
    if "not_continued" in metadata:
        yield f"not continued, as {metadata['not_continued']}"
    if "restarted" in metadata:
        yield "restarted, as none of its checkpoints could be used"


class ProgressDisplay:
    """Shows the progress while it is entered, with messages about single records."""

    def __init__(self) -> None:
        self._stacked: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the display."""

    def show(self, state: ProgressState, planned: PlannedTrial, record: Record) -> None:
        """Shows the state after a record of a trial was added."""
        raise NotImplementedError

    def _message(self, planned: PlannedTrial, record: Record) -> str:
        """Returns the message about a record, or "".

        There is one about each trial that failed or diverged, and one about stacked training for
        each model and data set.
        """
        match record:
            case Ended(outcome=Outcome.FAILED | Outcome.DIVERGED):
                return f"{record.outcome}: {planned.name}: {record.reason}"
            case Started():
                how = str(record.metadata.get("fusing") or record.metadata.get("not_fused") or "")
                what, _, _ = how.partition(":")
                if how and what not in self._stacked:
                    self._stacked.add(what)
                    return f"stacking: {how}"
        return ""


def progress_display(console: Console, total: int) -> ProgressDisplay:
    """Returns a live bar if the console is a terminal, one line that changes in a notebook, else
    plain lines."""
    if console.is_jupyter:
        return NotebookLine()
    return ProgressBar(console, total) if console.is_terminal else ProgressLines(console)


def print_line(console: Console, line: str) -> None:
    """Prints a line as it is, without markup, colours or wrapping."""
    if console.is_jupyter:  # There rich would make each line an output of its own.
        print(line)
    else:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class ProgressLines(ProgressDisplay):
    """Prints a line every few seconds, and one at once for each trial that fails or diverges."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._last_line = time.monotonic()
        self._first_end: float | None = None

    def show(self, state: ProgressState, planned: PlannedTrial, record: Record) -> None:
        if message := self._message(planned, record):
            self._print(message)
        now = time.monotonic()
        if state.ended == 1 and self._first_end is None:
            self._first_end = now
        all_ended = isinstance(record, Ended) and state.ended == state.total
        if now - self._last_line < LINE_SECONDS and not all_ended:
            return
        self._last_line = now
        parts = state.parts()
        if self._first_end is not None and TRIALS_BEFORE_ESTIMATE <= state.ended < state.total:
            # Measured from the first trial's end, so that the start-up time does not count.
            seconds_per_trial = (now - self._first_end) / (state.ended - 1)
            parts.append(f"about {seconds_per_trial * (state.total - state.ended):.0f} s left")
        self._print("; ".join(part for part in parts if part))

    def _print(self, text: str) -> None:
        print_line(self._console, text)


class ProgressBar(ProgressDisplay):
    """Shows one live bar: trials that ended, outcomes, remaining time, best value so far."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__()
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, state: ProgressState, planned: PlannedTrial, record: Record) -> None:
        if message := self._message(planned, record):
            self._progress.console.print(message, markup=False, highlight=False)
        text = "; ".join(part for part in (state.counts(), state.best_so_far()) if part)
        self._progress.update(self._task, completed=state.ended, description=escape(text))


class NotebookLine(ProgressDisplay):
    """Shows one line in the output of a notebook's cell, which changes twice a second at most.
    Messages about single trials are lines of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._text = "starting"
        self._last_update = time.monotonic()

    def __enter__(self) -> Self:
        from IPython import display

        show: Any = display.display
        self._handle = show(self._content(), raw=True, display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._update()

    def show(self, state: ProgressState, planned: PlannedTrial, record: Record) -> None:
        if message := self._message(planned, record):
            print(message)
        self._text = "; ".join(filter(None, state.parts()))
        if time.monotonic() - self._last_update >= UPDATE_SECONDS:
            self._update()

    def _update(self) -> None:
        self._last_update = time.monotonic()
        self._handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        return {"text/plain": self._text}
