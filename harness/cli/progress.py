"""Progress of a sweep: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from harness.core.metrics import Goal, best_epoch
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.core.text import plural
from harness.experiment.plan import PlannedTrial

PLAIN_SECONDS = 10.0
"""The shortest time between two plain lines."""
ENOUGH_TO_TELL = 4
"""Trials that must have ended before the time left is told."""


@dataclass(slots=True)
class Tally:
    """What has happened so far in a sweep."""

    total: int
    goal: Goal
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    running: dict[str, list[Measured]] = field(default_factory=dict)
    best: tuple[float, str] | None = None
    _begun: Counter[str] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        return sum(self.outcomes.values())

    def add(self, planned: PlannedTrial, record: Record) -> None:
        """Count one record."""
        history = self.running.setdefault(planned.trial_id, [])
        if isinstance(record, Started):
            self._begun.update(_beginning(record))
        if isinstance(record, Measured):
            history.append(record)
        if isinstance(record, Ended):
            del self.running[planned.trial_id]
            self.outcomes[record.outcome] += 1
            top = best_epoch(history, self.goal)
            if record.outcome is Outcome.DONE and top is not None:
                self._offer(top.values[self.goal.metric], planned.name)

    def _offer(self, value: float, name: str) -> None:
        if self.best is None or self.goal.better(value, self.best[0]):
            self.best = (value, name)

    def counts(self) -> str:
        """ "40 done, 1 diverged, 2 running": only what there is."""
        parts = [f"{n} {outcome}" for outcome, n in self.outcomes.items() if n]
        if self.running:
            parts.append(f"{len(self.running)} running")
        return ", ".join(parts) or "starting"

    def beginnings(self) -> list[str]:
        """How many trials went on from checkpoints, and why others did not where they might have:
        a line each, for people."""
        return [f"{how}: {plural(n, 'trial')}" for how, n in self._begun.items()]

    def leader(self) -> str:
        """ "best val/accuracy 0.9821 (mlp adam lr=0.01)", or nothing yet."""
        if self.best is None:
            return ""
        value, name = self.best
        return f"best {self.goal.metric} {value:.4f} ({name})"


def _beginning(started: Started) -> Iterator[str]:
    metadata = started.metadata
    if "resumed" in metadata:
        yield "gone on from a checkpoint"
    elif "continued_from" in metadata:
        yield f"continued from {plural(int(metadata['continued_from']), 'epoch')}"
    if "not_continued" in metadata:
        yield f"not continued, as {metadata['not_continued']}"
    if "restarted" in metadata:
        yield "begun anew, as none of its checkpoints could be used"


class Display(Protocol):
    """Shows a tally as it grows."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, tally: Tally, planned: PlannedTrial, record: Record) -> None: ...


def display(console: Console, total: int) -> Display:
    """A live bar where the console is a terminal, else plain lines."""
    return LiveBar(console, total) if console.is_terminal else PlainLines(console)


class Remarks:
    """What is said at once of a record, if anything."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def of(self, planned: PlannedTrial, record: Record) -> str:
        """A trial that did not go well; how trials train, told once for each model and data set."""
        match record:
            case Ended(outcome=Outcome.FAILED | Outcome.DIVERGED):
                return f"{record.outcome}: {planned.name}: {record.reason}"
            case Started():
                how = str(record.metadata.get("fusing") or record.metadata.get("not_fused") or "")
                what, _, _ = how.partition(":")
                if what not in self._told:
                    self._told.add(what)
                    return f"fusing: {how}" if how else ""
        return ""


class PlainLines:
    """A line every few seconds, and one at once for each trial that fails or diverges."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._remarks = Remarks()
        self._last = time.monotonic()
        self._first_end: float | None = None

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, tally: Tally, planned: PlannedTrial, record: Record) -> None:
        if remark := self._remarks.of(planned, record):
            self._say(remark)
        now = time.monotonic()
        if tally.ended == 1 and self._first_end is None:
            self._first_end = now
        last_trial = isinstance(record, Ended) and tally.ended == tally.total
        if now - self._last < PLAIN_SECONDS and not last_trial:
            return
        self._last = now
        parts = [f"{tally.ended}/{tally.total} trials", tally.counts(), tally.leader()]
        if self._first_end is not None and ENOUGH_TO_TELL <= tally.ended < tally.total:
            # Counted from the first trial's end: starting up is no measure of what is to come.
            pace = (now - self._first_end) / (tally.ended - 1)
            parts.append(f"about {pace * (tally.total - tally.ended):.0f} s left")
        self._say("; ".join(part for part in parts if part))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveBar:
    """One live bar: trials ended, running, failed, time left, best so far."""

    def __init__(self, console: Console, total: int) -> None:
        self._remarks = Remarks()
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> LiveBar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, tally: Tally, planned: PlannedTrial, record: Record) -> None:
        if remark := self._remarks.of(planned, record):
            self._progress.console.print(remark, markup=False, highlight=False)
        text = "; ".join(part for part in (tally.counts(), tally.leader()) if part)
        self._progress.update(self._task, completed=tally.ended, description=escape(text))
