"""The studies in MLflow: a parent run for each, a child for each trial that it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType

from harness import naming
from harness.experiment.spec import Axis, Experiment, Plan
from harness.experiment.tuning import Among, Search
from harness.history import Goal
from harness.records import Record
from harness.search.drive import sampled
from harness.search.ledger import Asked, Ledger
from harness.search.points import StudyPlan
from harness.tracking.store import Store
from harness.tracking.trial_run import TrialRun
from harness.tracking.writer import SweepWriter


@dataclass(slots=True)
class ChildRun:
    """One trial's run."""

    inner: TrialRun

    def record(self, record: Record) -> None:
        self.inner.record(record)

    def tag(self, name: str, value: str) -> None:
        self.inner.log.tags({name: value})


@dataclass(slots=True)
class StudyRuns:
    """Opens a study's parent run when its first trial is trained, and closes all of them.

    trials: how many are left of each study, by its label.
    """

    store: Store
    plan: Plan
    goal: Goal
    trials: Mapping[str, int]
    _writers: dict[str, SweepWriter] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> StudyRuns:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def start(self, asked: Asked) -> ChildRun:
        writer = self.parent(asked.ledger)
        return ChildRun(writer.start_trial(asked.current, sampled(asked)))

    def parent(self, ledger: Ledger) -> SweepWriter:
        """The writer of a study, its parent run opened where it is not."""
        label = ledger.plan.label
        if label not in self._writers:
            writer = SweepWriter(
                self.store,
                self.plan,
                self.goal,
                kind=naming.STUDY,
                trials=self.trials[label],
                title=f"study {label}",
            )
            self._writers[label] = self._stack.enter_context(writer)
        return self._writers[label]


def search_plan(experiment: Experiment, studies: Sequence[StudyPlan], search: Search) -> Plan:
    """What the parent runs say of a search, and what its runs' params are made from: the bases,
    and every field that is searched as an axis."""
    searched = [
        Axis(d.field, d.values if isinstance(d, Among) else (d.low, d.high)) for d in search.space
    ]
    per = [axis for axis in experiment.axes if axis.field in search.per]
    described = replace(experiment, axes=(*per, *searched))
    return Plan(described, tuple(study.base for study in studies), ())
