"""The search loop: asks studies for points, trains their trials, and tells the studies."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from time import sleep
from typing import Any, Final

from optuna.trial import TrialState

from harness.core.errors import InputError, Problem
from harness.core.metrics import TRAIN_SECONDS, Goal
from harness.core.paths import stacks_file
from harness.core.process import Interrupts
from harness.core.records import Ended, Measured, Outcome, Record
from harness.execution.executors.base import Executor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import CHECK_SECONDS, make_task
from harness.execution.stacking import AUTO_STACK_SIZE, plan_stacks
from harness.experiment.experiment import Search
from harness.experiment.plan import PlannedTrial
from harness.tuning.attributes import UNMEASURED
from harness.tuning.results import TrialResult
from harness.tuning.samplers import points_per_round
from harness.tuning.study import SearchPoint, TuningStudy

WORKER_DIED: Final = "its worker process died"
"""The start of the reason of a trial that failed only because its worker process died."""
WILCOXON: Final = "wilcoxon"
"""The pruner that compares a point's seeds, not its epochs."""
POLL_SECONDS: Final = 0.1
"""Between two looks whether points of other processes have ended."""
TIMED_POINTS: Final = 10
"""How many points of a study `--fuse auto` asks for at once where only time limits the study."""

FindResult = Callable[[str, Goal], TrialResult | None]
"""Returns the result of a trial, by its id, if the store has it."""


@dataclass(frozen=True, slots=True)
class StackLimit:
    """The limit on stacks. size: the most trials of a stack; 1 for no stacks.

    measured: whether to measure first that a stack is faster than its trials one by one.
    """

    size: int = 1
    measured: bool = False


@dataclass(frozen=True, slots=True)
class SearchEvent:
    """A record of a trial. search: what its run records of the search; None for a trial whose
    result is in the store already, whose records are not to be written again."""

    planned: PlannedTrial
    record: Record
    search: Mapping[str, Any] | None


@dataclass(slots=True)
class SearchLoop:
    """Trains the points of several studies side by side, so that no worker waits for one study.

    find_result: looks up trials that need no training. test_outputs: whether records carry weights
    and outputs. stacks: the limit on stacks, whose trials may be of several studies.
    """

    studies: Sequence[TuningStudy]
    executor: Executor
    find_result: FindResult
    goal: Goal
    interrupts: Interrupts
    data_root: Path
    test_outputs: bool = False
    stacks: StackLimit = field(default_factory=StackLimit)
    checkpoints: ExperimentCheckpoints | None = None
    _ready: list[SearchPoint] = field(default_factory=list)
    _training: dict[str, tuple[SearchPoint, TrialResult]] = field(default_factory=dict)
    _waiting: dict[str, list[SearchPoint]] = field(default_factory=lambda: defaultdict(list))
    _results: dict[str, TrialResult] = field(default_factory=dict)
    _known: deque[SearchEvent] = field(default_factory=deque)

    def events(self) -> Generator[SearchEvent]:
        """Trains until every study has spent its budget, yielding each record.

        The caller must store the run of a trial that has ended before it asks for the next event.
        Only then does the study get the point's result, so that a kill in between loses nothing.
        While the caller handles an event, an interruption is deferred. When the generator is
        closed, or an exception leaves it, the executor is closed.
        """
        try:
            self._start_tasks()
            while self._training or self._known or self._is_waiting():
                while self._known:
                    yield self._known.popleft()
                if not self._training:
                    if self._is_waiting():
                        self.interrupts.check()
                        sleep(POLL_SECONDS)
                        self._start_tasks()
                    continue
                self.interrupts.check()
                with self.interrupts.delegated(self.executor.request_stop):
                    event = self.executor.next(CHECK_SECONDS)
                if event is None:
                    continue
                point, result = self._training[event.key]
                record = _as_pruned(point, event.record)
                if record is not None:
                    with self.interrupts.deferred():
                        yield SearchEvent(point.current, record, search_tags(point))
                        result.add(record)
                        if isinstance(record, Ended):
                            self._end(point, result)
                        elif isinstance(record, Measured):
                            self._report(point, record)
                self._start_tasks()
        finally:
            self.executor.close()

    def _is_waiting(self) -> bool:
        return any(study.is_waiting for study in self.studies)

    def _start_tasks(self) -> None:
        """Fills the free slots. The loop asks for a point only when it can start: results that
        arrive before then may lead to a better one."""
        while True:
            self._ask()
            startable = [p for p in self._ready if self.executor.has_slot(p.current.trial.device)]
            if not startable:
                return
            stack = next_stack(startable, self.stacks.size)
            for point in stack:
                self._ready.remove(point)
            trials = [point.current for point in stack]
            measured = self.stacks.measured and len(trials) > 1
            self.executor.submit(
                make_task(
                    self.data_root,
                    self.test_outputs,
                    self.checkpoints,
                    stacks_file() if measured else None,
                    trials,
                    metric=self.studies[0].plan.search.objectives[0].metric,
                )
            )

    def _ask(self) -> None:
        """Asks for as many points as a stack takes, each of the study with the fewest so far."""
        while able := [study for study in self.studies if self._may_ask(study)]:
            with self.interrupts.deferred():
                point = min(able, key=lambda study: study.n_asked()).ask()
                if point is not None:
                    self._advance(point)

    def _may_ask(self, study: TuningStudy) -> bool:
        device = study.plan.base.trial.device
        if not self.executor.has_slot(device) or not study.may_ask() or study.is_over():
            return False
        ready = sum(point.current.trial.device == device for point in self._ready)
        return ready < self.stacks.size

    def _advance(self, point: SearchPoint) -> None:
        """Makes a point's next seed ready to train, or takes its result if that is known."""
        trial_id = point.current.trial_id
        if trial_id in self._training:
            self._waiting[trial_id].append(point)
            return
        result = self._results.get(trial_id) or self.find_result(trial_id, self.goal)
        if result is None:
            self._training[trial_id] = point, TrialResult()
            self._ready.append(point)
            return
        for measured in result.history:
            if self._is_pruned_after(point, measured):
                point.pruned_at = measured.epoch
                break
        result = result.until(point.pruned_at)
        end = _pruned_end(point) if point.pruned_at else Ended(result.outcome or Outcome.DONE, {})
        records: list[Record] = [*result.history, end]
        self._known += [SearchEvent(point.current, record, None) for record in records]
        if point.pruned_at is None:
            self._add_result(point, result)
        else:
            self._close_pruned(point, result)

    def _report(self, point: SearchPoint, measured: Measured) -> None:
        """Reports an epoch to the pruner, and stops the trial if the pruner says so."""
        if self._is_pruned_after(point, measured):
            point.pruned_at = measured.epoch
            self.executor.cancel(point.current.trial_id)

    def _is_pruned_after(self, point: SearchPoint, measured: Measured) -> bool:
        """Reports an epoch to the pruner. Returns whether it stops the point."""
        if point.study.search.pruner.name in ("none", WILCOXON):
            return False
        value = measured.values.get(self.goal.metric)
        is_last = measured.epoch >= point.current.trial.epochs
        if measured.epoch == 0 or value is None or is_last:
            return False  # The untrained model says nothing; the last value is the trial's own.
        return point.report_epoch(measured.epoch, value)

    def _end(self, point: SearchPoint, result: TrialResult) -> None:
        trial_id = point.current.trial_id
        del self._training[trial_id]
        if point.pruned_at is not None:
            if self.checkpoints:
                self.checkpoints.delete(point.current)
            self._close_pruned(point, result)
        elif not (
            result.reason.startswith(WORKER_DIED) and point.study.retry(point, result.reason)
        ):
            self._results[trial_id] = result
            self._add_result(point, result)
        for waiting in self._waiting.pop(trial_id, ()):
            self._advance(waiting)

    def _close_pruned(self, point: SearchPoint, result: TrialResult) -> None:
        point.seconds += result.seconds
        point.study.tell(point, TrialState.PRUNED, "pruned")

    def _add_result(self, point: SearchPoint, result: TrialResult) -> None:
        """Adds one seed's result to a point, and trains the next seed or closes the point."""
        study = point.study
        point.seconds += result.seconds
        values = result.values(study.search.objectives, self.goal)
        if result.outcome is Outcome.DIVERGED:
            # Ranked worst, like a point that was pruned before it had a value; no value is made up.
            study.tell(point, TrialState.PRUNED, "diverged")
            return
        if result.outcome is not Outcome.DONE or values is None:
            failed = result.outcome is not Outcome.DONE
            study.tell(point, TrialState.FAIL, "failed" if failed else UNMEASURED)
            return
        point.values.append(values)
        point.seed_index += 1
        if study.search.pruner.name == WILCOXON:
            point.report(values[0], point.seed_index)
        if point.seed_index == len(point.planned_trials):
            study.tell(point, TrialState.COMPLETE, "done")
        elif study.search.pruner.name == WILCOXON and point.should_prune():
            point.pruned_at = point.seed_index
            study.tell(point, TrialState.PRUNED, "pruned")
        else:
            self._advance(point)


def _as_pruned(point: SearchPoint, record: Record) -> Record | None:
    """Returns a record as it is to be written: of a pruned trial only its end, however far it
    trained before it could be stopped."""
    if point.pruned_at is None:
        return record
    return _pruned_end(point) if isinstance(record, Ended) else None


def _pruned_end(point: SearchPoint) -> Ended:
    reason = f"pruned after epoch {point.pruned_at} by {point.study.search.pruner.name}"
    return Ended(Outcome.INTERRUPTED, {}, reason=reason, pruned_at=point.pruned_at)


def search_tags(point: SearchPoint) -> Mapping[str, Any]:
    """Returns what a run records of how its trial was proposed."""
    return {
        "study": point.study.plan.label,
        "sampler": str(point.study.search.sampler),
        "number": point.number,
    }


def stack_limit(fuse: int | str, studies: Sequence[TuningStudy], slots: int) -> StackLimit:
    """Returns the limit that `--fuse` sets: a number, "off", or "auto".

    "auto" takes from each study no more points than its sampler draws before it uses new results,
    and no more than leave a stack for each of the executor's slots.
    """
    if fuse == "off":
        return StackLimit()
    if isinstance(fuse, int):
        return StackLimit(fuse)
    size = 0
    for study in studies:
        remaining = study.remaining()
        most = TIMED_POINTS if remaining is None else ceil(remaining / slots)
        size += min(points_per_round(study.plan) or most, most)
    return StackLimit(min(AUTO_STACK_SIZE, max(1, size)), measured=True)


def require_own_clocks(search: Search) -> None:
    """Raises InputError where training time is an objective, which a stack's trials share."""
    if any(objective.metric == TRAIN_SECONDS for objective in search.objectives):
        problem = (
            f"--fuse: the trials of a stack share its clock, but {TRAIN_SECONDS} is an objective"
        )
        raise InputError(Problem(problem, hint="leave one of the two out"))


def next_stack(ready: Sequence[SearchPoint], size: int) -> list[SearchPoint]:
    """Returns the first of the ready points, and those that train with it as one stack.

    A point whose worker died trains alone, so that what killed the worker affects no other point.
    """
    first = ready[0]
    if size == 1 or first.is_retry:
        return [first]
    device = first.current.trial.device
    alike = [p for p in ready if p.current.trial.device == device and not p.is_retry]
    by_id = {point.current.trial_id: point for point in alike}
    for trials in plan_stacks([point.current for point in alike], size).stacks:
        points = [by_id[planned.trial_id] for planned in trials]
        if first in points:
            return points
    return [first]
