"""Ask, train, tell: points from the studies to the engine, and its records back."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import TrialState

from harness.core.interrupts import Interrupts
from harness.core.metrics import Goal
from harness.core.paths import stacks_file
from harness.core.records import Ended, Measured, Outcome, Record
from harness.execution.executors.base import Executor, Task
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import CHECK_SECONDS
from harness.experiment.plan import PlannedTrial
from harness.tuning.results import TrialResult
from harness.tuning.stacking import StackLimit, next_stack
from harness.tuning.study import SearchPoint, TuningStudy

WORKER_DIED = "its worker process died"
"""How the reason begins of a trial that failed with its worker, and through no fault of its own."""
WILCOXON = "wilcoxon"


class Run(Protocol):
    """Takes the records of one trial."""

    def record(self, record: Record) -> None: ...

    def settle(self) -> None:
        """Wait until the trial, which has ended, is safe from a kill."""
        ...


class Writer(Protocol):
    """Opens a run for each trial of a study."""

    def start_trial(
        self, planned: PlannedTrial, sampler: Mapping[str, Any] | None = None
    ) -> Run: ...


Find = Callable[[str, Goal], TrialResult | None]
"""A trial's result by its id, where it stands in the store."""


@dataclass(slots=True)
class Training:
    """A trial in the engine, or about to be."""

    asked: SearchPoint
    result: TrialResult = field(default_factory=TrialResult)
    run: Run | None = None


@dataclass(slots=True)
class Drive:
    """Trains the points of several studies side by side, so that no worker waits for one of them.

    find: looks up trials that need no training. evidence: whether trials keep their weights.
    stacks: how many points are asked at once and trained together, whichever study's they are.
    checkpoints: where those in training keep theirs.
    """

    studies: Sequence[TuningStudy]
    executor: Executor
    writer: Writer
    find: Find
    goal: Goal
    interrupts: Interrupts
    data_root: Path
    test_outputs: bool = False
    stacks: StackLimit = field(default_factory=StackLimit)
    checkpoints: ExperimentCheckpoints | None = None
    _ready: list[SearchPoint] = field(default_factory=list)
    _training: dict[str, Training] = field(default_factory=dict)
    _waiting: dict[str, list[SearchPoint]] = field(default_factory=lambda: defaultdict(list))
    _found: dict[str, TrialResult] = field(default_factory=dict)
    _shown: deque[tuple[PlannedTrial, Record]] = field(default_factory=deque)

    def records(self) -> Generator[tuple[PlannedTrial, Record]]:
        """Run all studies to the end of their budgets, yielding each record after it was handed to
        the writer.

        A point is told to its study after its runs are safe, so that a kill in between costs no
        result. Where the loop is left early, every run that was open is written as interrupted,
        and the engine is closed.
        """
        try:
            self._fill()
            while self._training or self._shown:
                while self._shown:
                    yield self._shown.popleft()
                if not self._training:
                    continue
                self.interrupts.check()
                with self.interrupts.delegated(self.executor.request_stop):
                    event = self.executor.next(CHECK_SECONDS)
                if event is None:
                    continue
                training = self._training[event.key]
                with self.interrupts.deferred():
                    planned = training.asked.current
                    record = self._take(training, event.record)
                if record is not None:
                    yield planned, record
                self._fill()
        finally:
            self.executor.close()
            self._interrupt()

    def _take(self, training: Training, record: Record) -> Record | None:
        """Write a record and act on it. Returns what was written."""
        written = self._write(training, record)
        if isinstance(written, Ended):
            del self._training[training.asked.current.trial_id]
            self._ended(training)
        elif isinstance(written, Measured):
            self._report(training, written)
        return written

    def _fill(self) -> None:
        """Begin what there is room for. Points are asked when they can begin, and not before:
        what is measured until then may make better ones."""
        while True:
            self._ask()
            able = [one for one in self._ready if self.executor.has_slot(one.current.trial.device)]
            if not able:
                return
            members = next_stack(able, self.stacks.size)
            for one in members:
                self._ready.remove(one)
            self.executor.submit(self._task([member.current for member in members]))

    def _task(self, members: Sequence[PlannedTrial]) -> Task:
        (key, trial), *others = ((one.trial_id, one.trial) for one in members)
        return Task(
            key,
            trial,
            self.data_root,
            self.test_outputs,
            others=tuple(others),
            speedup_file=stacks_file() if self.stacks.measured and others else None,
            checkpoints=self.checkpoints.for_task(members) if self.checkpoints else None,
        )

    def _ask(self) -> None:
        """Ask for as many points as a stack takes, each of the study that has begun the fewest."""
        while able := [study for study in self.studies if self._may_ask(study)]:
            with self.interrupts.deferred():
                asked = min(able, key=lambda study: study.n_asked()).ask()
                if asked is not None:
                    self._advance(asked)

    def _may_ask(self, study: TuningStudy) -> bool:
        device = study.plan.base.trial.device
        if not self.executor.has_slot(device) or study.is_over():
            return False
        waiting = sum(one.current.trial.device == device for one in self._ready)
        return waiting < self.stacks.size

    def _advance(self, asked: SearchPoint) -> None:
        """Make a point's next seed ready to train, or take its result from where it is known."""
        key = asked.current.trial_id
        if key in self._training:
            self._waiting[key].append(asked)
            return
        result = self._found.get(key) or self.find(key, self.goal)
        if result is None:
            self._training[key] = Training(asked)
            self._ready.append(asked)
            return
        self._show(asked.current, result)
        self._settle(asked, result)

    def _show(self, planned: PlannedTrial, result: TrialResult) -> None:
        """Let the display count a trial that is not trained again."""
        self._shown.extend((planned, measured) for measured in result.history)
        self._shown.append((planned, Ended(result.outcome or Outcome.DONE, {})))

    def _write(self, training: Training, record: Record) -> Record | None:
        """What was written: of a pruned trial nothing more than its end, however far it came before
        it could be stopped."""
        asked = training.asked
        if asked.pruned_at is not None:
            if not isinstance(record, Ended):
                return None
            reason = f"pruned after epoch {asked.pruned_at} by {asked.study.search.pruner.name}"
            record = Ended(Outcome.INTERRUPTED, {}, reason=reason, pruned_at=asked.pruned_at)
        if training.run is None:
            training.run = self.writer.start_trial(asked.current, sampled(asked))
        training.result.add(record)
        training.run.record(record)
        if isinstance(record, Ended):
            training.run.settle()
        return record

    def _interrupt(self) -> None:
        for training in self._training.values():
            if training.run is not None:
                ended = Ended(Outcome.INTERRUPTED, {}, reason="the search was interrupted")
                training.run.record(ended)

    def _report(self, training: Training, measured: Measured) -> None:
        """Tell the pruner of an epoch; stop the trial where it says so."""
        asked, pruner = training.asked, training.asked.study.search.pruner.name
        if pruner in ("none", WILCOXON) or asked.pruned_at is not None:
            return
        value = measured.values.get(self.goal.metric)
        last = measured.epoch >= asked.current.trial.epochs
        if measured.epoch == 0 or value is None or last:
            return  # The untrained model says nothing, and the last epoch's value is the trial's.
        asked.report(value, measured.epoch)
        if asked.should_prune():
            asked.pruned_at = measured.epoch
            self.executor.cancel(asked.current.trial_id)

    def _ended(self, training: Training) -> None:
        asked, result, key = training.asked, training.result, training.asked.current.trial_id
        if asked.pruned_at is not None:
            if self.checkpoints:
                self.checkpoints.delete(asked.current)
            asked.seconds += result.seconds
            asked.study.tell(asked, TrialState.PRUNED, "pruned")
        elif result.reason.startswith(WORKER_DIED) and asked.study.retry(asked, result.reason):
            pass
        else:
            self._found[key] = result
            self._settle(asked, result)
        for waiting in self._waiting.pop(key, ()):
            self._advance(waiting)

    def _settle(self, asked: SearchPoint, result: TrialResult) -> None:
        """One seed's result is there: go on to the next seed, or close the point."""
        asked.seconds += result.seconds
        values = result.values(asked.study.search.objectives, self.goal)
        if result.outcome is Outcome.DIVERGED:
            # Ranked worst, as a point that was pruned before it had a value: none is invented.
            asked.study.tell(asked, TrialState.PRUNED, "diverged")
        elif result.outcome is not Outcome.DONE or values is None:
            asked.study.tell(asked, TrialState.FAIL, "failed")
        else:
            asked.values.append(values)
            self._next_seed(asked, values[0])

    def _next_seed(self, asked: SearchPoint, value: float) -> None:
        asked.seed_index += 1
        done = asked.seed_index == len(asked.planned_trials)
        if asked.study.search.pruner.name == WILCOXON:
            asked.report(value, asked.seed_index)
            if not done and asked.should_prune():
                asked.pruned_at = asked.seed_index
                asked.study.tell(asked, TrialState.PRUNED, "pruned")
                return
        if done:
            asked.study.tell(asked, TrialState.COMPLETE, "done")
        else:
            self._advance(asked)


def sampled(asked: SearchPoint) -> Mapping[str, Any]:
    """What a run records of how its trial was proposed."""
    return {
        "study": asked.study.plan.label,
        "sampler": str(asked.study.search.sampler),
        "number": asked.number,
    }
