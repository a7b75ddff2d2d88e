"""Searches whose trials are not trained: a trial's value is its learning rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.metrics import Goal
from harness.core.process import Interrupts
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.execution.executors.base import Event, TrainingTask
from harness.tuning.search_loop import FindResult, SearchEvent, SearchLoop, StackLimit
from harness.tuning.storage import open_storage
from harness.tuning.study import TuningStudy
from tests.tuning.tuning_support import plans, write


@dataclass
class StubExecutor:
    """An executor of one slot that trains each task to its end, and ignores `cancel`.

    A trial's value is its learning rate, at every epoch.
    """

    slots: int = 1
    is_local: bool = True
    description: str = "a stub"
    tasks: list[TrainingTask] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    events: deque[Event] = field(default_factory=deque)

    def prepare(self) -> None: ...

    def has_slot(self, device: str) -> bool:
        left = {event.key for event in self.events}
        return sum(any(key in left for key in t.trials) for t in self.tasks) < self.slots

    def submit(self, task: TrainingTask) -> None:
        self.tasks.append(task)
        for epoch in range(-1, task.trial.epochs + 1):
            for key, trial in task.trials.items():
                record: Record = Measured(epoch, {"val/accuracy": trial.lr}, 0)
                if epoch < 0:
                    record = Started({"fused": len(task.trials)})
                self.events.append(Event(key, record))
        ends = (Event(key, Ended(Outcome.DONE, {})) for key in task.trials)
        self.events.extend(ends)

    def next(self, timeout: float | None = None) -> Event | None:
        return self.events.popleft() if self.events else None

    def cancel(self, key: str) -> None:
        self.cancelled.append(key)

    def request_stop(self) -> bool:
        return False

    def close(self) -> None: ...


@dataclass
class Search:
    """A search that has run. records: those to be written, by trial id. n_told: when each trial
    ended, how many points their studies had been told."""

    studies: list[TuningStudy]
    executor: StubExecutor
    records: dict[str, list[Record]] = field(default_factory=dict)
    n_told: list[int] = field(default_factory=list)

    def handle(self, event: SearchEvent) -> None:
        self.records.setdefault(event.planned.trial_id, []).append(event.record)
        if isinstance(event.record, Ended):
            trials = [t for study in self.studies for t in study.optuna_study.trials]
            self.n_told.append(sum(trial.state.is_finished() for trial in trials))


@contextmanager
def searched(
    workspace: Path,
    data_root: Path,
    content: str,
    stacks: StackLimit | None = None,
    slots: int = 1,
    find_result: FindResult = lambda *_: None,
) -> Iterator[Search]:
    """Runs a search to its end."""
    study_plans = plans(write(workspace, content), data_root)
    with open_storage("", workspace / "mlruns", "small") as opened, Interrupts() as interrupts:
        studies = [TuningStudy(opened, plan, "small") for plan in study_plans]
        found = Search(studies, StubExecutor(slots))
        loop = SearchLoop(
            studies,
            found.executor,
            find_result,
            Goal("val/accuracy", "max"),
            interrupts,
            data_root,
            stacks=stacks or StackLimit(),
        )
        for event in loop.events():
            found.handle(event)
        yield found
