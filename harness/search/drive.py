"""Ask, train, tell: points from the studies' ledgers to the engine, and its records back."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import TrialState

from harness import naming
from harness.dispatch.checkpoints import CheckpointRoom, remove
from harness.dispatch.engine import Engine, Task
from harness.execution import CHECK_SECONDS
from harness.experiment.spec import PlannedTrial
from harness.history import Goal
from harness.interrupts import Interrupts
from harness.records import Ended, Measured, Outcome, Record
from harness.search.ledger import Asked, Ledger
from harness.search.results import Result

WORKER_DIED = "its worker process died"
"""How the reason begins of a trial that failed with its worker, and through no fault of its own."""
WILCOXON = "wilcoxon"


class Run(Protocol):
    """Takes the records of one trial."""

    def record(self, record: Record) -> None: ...

    def tag(self, name: str, value: str) -> None: ...


class Runs(Protocol):
    """Opens a run for each trial of a study."""

    def start(self, asked: Asked) -> Run: ...


Find = Callable[[str, Goal], Result | None]
"""A trial's result by its id, where it stands in the store."""


@dataclass(slots=True)
class Training:
    """A trial in the engine."""

    asked: Asked
    result: Result = field(default_factory=Result)
    run: Run | None = None


@dataclass(slots=True)
class Drive:
    """Trains the points of several studies side by side, so that no worker waits for one of them.

    find: looks up trials that need no training. evidence: whether trials keep their weights.
    checkpoints: where those in training keep theirs.
    """

    ledgers: Sequence[Ledger]
    engine: Engine
    runs: Runs
    find: Find
    goal: Goal
    interrupts: Interrupts
    data_root: Path
    evidence: bool = False
    checkpoints: CheckpointRoom | None = None
    _training: dict[str, Training] = field(default_factory=dict)
    _waiting: dict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    _found: dict[str, Result] = field(default_factory=dict)
    _shown: deque[tuple[PlannedTrial, Record]] = field(default_factory=deque)

    def records(self) -> Iterator[tuple[PlannedTrial, Record]]:
        """Run all studies to the end of their budgets, yielding each record after it was written.

        A point is told to its study after its runs are written, so that a kill in between costs
        no result. Where the loop is left early its caller closes the engine and the runs.
        """
        self._fill()
        while self._training or self._shown:
            while self._shown:
                yield self._shown.popleft()
            if not self._training:
                continue
            self.interrupts.check()
            with self.interrupts.asking(self.engine.stop_soon):
                event = self.engine.next(CHECK_SECONDS)
            if event is None:
                continue
            training = self._training[event.key]
            with self.interrupts.deferred():
                planned = training.asked.current
                record = self._write(training, event.record)
                if isinstance(record, Ended):
                    del self._training[event.key]
                    self._ended(training)
                elif isinstance(record, Measured):
                    self._report(training, record)
            yield planned, record
            self._fill()

    def _fill(self) -> None:
        """Ask for points until every slot has one, of the study that has begun the fewest."""
        while len(self._training) < self.engine.slots:
            able = [ledger for ledger in self.ledgers if self._has_room(ledger)]
            if not able:
                return
            with self.interrupts.deferred():
                asked = min(able, key=lambda ledger: ledger.begun()).ask()
                if asked is not None:
                    self._advance(asked)

    def _has_room(self, ledger: Ledger) -> bool:
        return self.engine.room(ledger.plan.base.trial.device) and not ledger.is_over()

    def _advance(self, asked: Asked) -> None:
        """Train a point's next seed, or take its result from where it is known."""
        key = asked.current.trial_id
        if key in self._training:
            self._waiting[key].append(asked)
            return
        result = self._found.get(key) or self.find(key, self.goal)
        if result is None:
            self._training[key] = Training(asked)
            kept = self.checkpoints.of([asked.current]) if self.checkpoints else None
            trial = asked.current.trial
            self.engine.submit(Task(key, trial, self.data_root, self.evidence, checkpoints=kept))
            return
        self._show(asked.current, result)
        self._settle(asked, result)

    def _show(self, planned: PlannedTrial, result: Result) -> None:
        """Let the display count a trial that is not trained again."""
        self._shown.extend((planned, point) for point in result.history)
        self._shown.append((planned, Ended(result.outcome or Outcome.DONE, {})))

    def _write(self, training: Training, record: Record) -> Record:
        asked = training.asked
        if training.run is None:
            training.run = self.runs.start(asked)
        if asked.pruned_at is not None and _is_cut(record):
            reason = f"pruned after epoch {asked.pruned_at} by {asked.ledger.search.pruner.name}"
            record = Ended(Outcome.INTERRUPTED, {}, reason=reason)
            training.run.tag(naming.TAG_PRUNED_AT, str(asked.pruned_at))
        training.result.take(record)
        training.run.record(record)
        return record

    def _report(self, training: Training, measured: Measured) -> None:
        """Tell the pruner of an epoch; stop the trial where it says so."""
        asked, pruner = training.asked, training.asked.ledger.search.pruner.name
        if pruner in ("none", WILCOXON) or asked.pruned_at is not None:
            return
        value = measured.values.get(self.goal.metric)
        last = measured.epoch >= asked.current.trial.epochs
        if measured.epoch == 0 or value is None or last:
            return  # The untrained model says nothing, and the last epoch's value is the trial's.
        asked.trial.report(value, measured.epoch)
        if asked.trial.should_prune():
            asked.pruned_at = measured.epoch
            self.engine.cancel(asked.current.trial_id)

    def _ended(self, training: Training) -> None:
        asked, result, key = training.asked, training.result, training.asked.current.trial_id
        if asked.pruned_at is not None:
            if self.checkpoints:
                remove(self.checkpoints.place(asked.current))
            asked.seconds += result.seconds
            asked.ledger.tell(asked, TrialState.PRUNED, "pruned")
        elif result.reason.startswith(WORKER_DIED) and asked.ledger.requeue(asked, result.reason):
            pass
        else:
            self._found[key] = result
            self._settle(asked, result)
        for waiting in self._waiting.pop(key, ()):
            self._advance(waiting)

    def _settle(self, asked: Asked, result: Result) -> None:
        """One seed's result is there: go on to the next seed, or close the point."""
        asked.seconds += result.seconds
        values = result.values(asked.ledger.objectives, self.goal)
        if result.outcome is Outcome.DIVERGED:
            # Ranked worst, as a point that was pruned before it had a value: none is invented.
            asked.ledger.tell(asked, TrialState.PRUNED, "diverged")
        elif result.outcome is not Outcome.DONE or values is None:
            asked.ledger.tell(asked, TrialState.FAIL, "failed")
        else:
            asked.values.append(values)
            self._next_seed(asked, values[0])

    def _next_seed(self, asked: Asked, value: float) -> None:
        asked.at += 1
        done = asked.at == len(asked.planned)
        if asked.ledger.search.pruner.name == WILCOXON:
            asked.trial.report(value, asked.at)
            if not done and asked.trial.should_prune():
                asked.pruned_at = asked.at
                asked.ledger.tell(asked, TrialState.PRUNED, "pruned")
                return
        if done:
            asked.ledger.tell(asked, TrialState.COMPLETE, "done")
        else:
            self._advance(asked)


def _is_cut(record: Record) -> bool:
    return isinstance(record, Ended) and record.outcome is Outcome.INTERRUPTED


def sampled(asked: Asked) -> Mapping[str, Any]:
    """What a run records of how its trial was proposed."""
    return {
        "study": asked.ledger.plan.label,
        "sampler": str(asked.ledger.search.sampler),
        "number": asked.number,
    }
