"""One study: which points it has asked for, how they ended, and how much of its budget is left.

All of it is stored in Optuna's storage and read from there, so that a killed search continues where
it was, and several machines share one budget. A point of the study is a trial of Optuna; it stands
for one trial of the harness on each of the search's seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from harness.analysis.resolution import earliest_best, resolve
from harness.core.text import plural
from harness.experiment.experiment import Search
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.store.coordination.processes import process_tag
from harness.tuning.attributes import (
    EXHAUSTED,
    FIRST_STEP,
    KNOWN,
    LEFT_OUT,
    OUTCOME,
    RETRIES,
    RETRY_OF,
    SECONDS,
    TRIALS,
    UNCOUNTED,
    UNMEASURED,
    is_counted,
    seconds_of,
)
from harness.tuning.proposals import Proposals
from harness.tuning.samplers import decode, encode, make_pruner
from harness.tuning.storage import OWNER, StalePoints, StudyStorage
from harness.tuning.study_plan import InvalidPoint, StudyPlan, limits

MAX_RETRIES: Final = 2
"""How often a point is retried whose worker died."""
MAX_LEFT_OUT: Final = 1000
"""After how many points in a row that are left out a study counts as having none left."""
MAX_ELSEWHERE: Final = 20
"""After how many points in a row that other processes train a study waits for these."""
WAIT_SECONDS: Final = 1.0
"""How long it waits before it draws another point."""

_OUTCOMES: Final = {TrialState.COMPLETE: "done", TrialState.RUNNING: "running"}
_logger = logging.getLogger(__name__)


class _NotNeeded(Exception):
    """Raised for a point that the study does not need, as other processes have drawn enough."""


class _TrainedElsewhere(InvalidPoint):
    """Raised for a point that another process trains."""


@dataclass(slots=True)
class SearchPoint:
    """A point that is being tried.

    optuna_trial: the point in its study.
    planned_trials: its trial on each of the search's seeds.
    seed_index: which of them is the current one.
    values: the objectives' values, for each seed that is done.
    seconds: of training so far.
    pruned_at: the epoch, or the number of seeds, after which the pruner stopped the point.
    """

    study: TuningStudy
    optuna_trial: optuna.Trial
    planned_trials: list[PlannedTrial]
    seed_index: int = 0
    values: list[Sequence[float]] = field(default_factory=list)
    seconds: float = 0.0
    pruned_at: int | None = None

    @property
    def current(self) -> PlannedTrial:
        return self.planned_trials[self.seed_index]

    @property
    def number(self) -> int:
        return int(self.optuna_trial.number)

    @property
    def is_retry(self) -> bool:
        """Whether a worker died that trained the point before."""
        return int(self.optuna_trial.user_attrs.get(RETRIES, 0)) > 0

    def report_epoch(self, epoch: int, value: float) -> bool:
        """Reports the value after an epoch to the pruner. Returns whether it stops the point."""
        self.report(value, self.study.step_of(epoch))
        return self.should_prune()

    def report(self, value: float, step: int) -> None:
        """Reports a value to the pruner."""
        with suppress(UpdateFinishedTrialError):  # Another machine has taken the point over.
            self.optuna_trial.report(value, step)

    def should_prune(self) -> bool:
        """Whether the pruner stops the point; False where another machine has taken it over."""
        with suppress(UpdateFinishedTrialError):
            return bool(self.optuna_trial.should_prune())
        return False


class TuningStudy:
    """A study of the search. Not thread-safe; other processes may write to the same storage."""

    def __init__(self, storage: StudyStorage, plan: StudyPlan, experiment: str) -> None:
        self.begun_earlier = plan.earlier is not None and _is_stored(
            storage.storage, _name(experiment, plan.earlier), unless=_name(experiment, plan)
        )
        if plan.earlier is not None and self.begun_earlier:
            plan = plan.earlier
        self.plan = plan
        self.search: Search = plan.search
        self._dimensions = {dimension.field: dimension for dimension in plan.dimensions}
        self._storage = storage.storage
        self.shared = storage.shared
        self._cached_trials: list[FrozenTrial] | None = None
        self._allowed: dict[int, bool] = {}
        self._spent_by_ended = 0, 0.0, 0
        directions: list[Literal["minimize", "maximize"]] = [
            "maximize" if o.direction == "max" else "minimize" for o in plan.search.objectives
        ]
        searched = self._dimensions.get("epochs")
        epochs = [plan.base.trial.epochs, *(limits(searched) if searched else ())]
        self.optuna_study = optuna.create_study(
            study_name=_name(experiment, plan),
            storage=storage.storage,
            directions=directions,
            pruner=make_pruner(self.search, int(max(epochs))),
            load_if_exists=True,
        )
        self._proposals = Proposals(plan, self.optuna_study)
        self._exhausted = self._stored_exhaustion()
        self._waits_until = 0.0
        self._first_step = self._read_first_step()
        self._stale_points = StalePoints(self.optuna_study)
        self._enqueue_known_points()

    def recover_lost(self) -> int:
        """Fails the points whose process has died, and queues them again. Returns their number.

        Only repeated calls detect dead processes on other machines.
        """
        trials = self._trials()
        if self.shared:
            lost = self._stale_points.among(trials)
        else:  # No other process has the journal, and this one has not asked for a point yet.
            lost = [trial for trial in trials if trial.state is TrialState.RUNNING]
        for trial in lost:
            self._requeue(trial, "its process died", retries=0)
        return len(lost)

    def n_asked(self) -> int:
        """Returns how many points of the budget were asked for, finished or not."""
        return self._spent()[0]

    def remaining(self) -> int | None:
        """Returns how many points are left to ask for; None where only time limits them."""
        if self.is_over():
            return 0
        return None if self.search.trials is None else max(0, self.search.trials - self.n_asked())

    def is_over(self) -> bool:
        """Whether the budget is used up, or the study's patience, or its space."""
        search = self.search
        if self._exhausted and self.exhausted():
            return True
        points, seconds = self._spent()
        if search.trials is not None and points >= search.trials:
            return True
        if search.minutes is not None and seconds >= search.minutes * 60:
            return True
        return search.patience is not None and self._n_since_best() >= search.patience

    def ask(self) -> SearchPoint | None:
        """Returns the next point.

        Returns None where the study is over, and where it waits for points of other processes.
        """
        n_left_out = n_elsewhere = 0
        self._waits_until = 0.0
        while not self.is_over() and n_elsewhere < MAX_ELSEWHERE:
            if n_left_out == MAX_LEFT_OUT or self._has_no_point_left(n_left_out):
                self._end(n_left_out)
                return None
            optuna_trial = self._proposals.reserve(n_left_out)
            self._cached_trials = None
            try:
                return self._draw(optuna_trial)
            except UpdateFinishedTrialError:
                continue  # Another machine took this process for dead.
            except _NotNeeded as error:
                self._drop(optuna_trial, str(error))
            except InvalidPoint as error:
                n_left_out += 1
                n_elsewhere += isinstance(error, _TrainedElsewhere)
                self._drop(optuna_trial, str(error), left_out=True)
        if n_elsewhere == MAX_ELSEWHERE:
            self._waits_until = monotonic() + WAIT_SECONDS
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether the last draws gave only points that other processes train."""
        return self._waits_until > 0

    def may_ask(self) -> bool:
        """Whether the study has waited long enough for points of other processes."""
        return monotonic() >= self._waits_until

    def n_left_out(self) -> int:
        """Returns how many points were drawn that the rules leave out, or that have no trial."""
        return sum(LEFT_OUT in trial.user_attrs for trial in self._trials())

    def exhausted(self) -> str:
        """Returns why the study has no point left; empty where it may have some."""
        return "" if self._has_queued_points() else self._exhausted

    def step_of(self, epoch: int) -> int:
        """Returns the step of Optuna that stands for an epoch; Optuna counts steps from 0."""
        return epoch - 1 + self._first_step

    def planned_trials(self) -> Iterator[PlannedTrial]:
        """Yields the trials of all points so far."""
        for optuna_trial in self._trials():
            if TRIALS in optuna_trial.user_attrs:
                with suppress(InvalidPoint):  # A skip rule was added after the point.
                    yield from self._planned(self.trial_of(optuna_trial), optuna_trial.number)

    def tell(self, point: SearchPoint, state: TrialState, outcome: str) -> None:
        """Ends a point. The value of a complete point is the mean over its seeds.

        If another machine has taken the point over, its result stands; the runs of this one
        stay in the store.
        """
        self._cached_trials = None
        optuna_trial, values = point.optuna_trial, None
        try:
            if self.shared:
                trial_id = optuna_trial._trial_id
                stored_state = self._storage.get_trial(trial_id).state
                self._storage.check_trial_is_updatable(trial_id, stored_state)
            if self.search.minutes is not None:
                optuna_trial.set_user_attr(SECONDS, point.seconds)
            if state is TrialState.COMPLETE:
                values = [sum(column) / len(column) for column in zip(*point.values, strict=True)]
            else:
                optuna_trial.set_user_attr(OUTCOME, outcome)
            self.optuna_study.tell(optuna_trial, values, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            _logger.warning(
                "study %r: point #%d is not counted here: another machine has taken it over, "
                "because it received no heartbeat of this one for too long",
                self.plan.label,
                point.number,
            )

    def retry(self, point: SearchPoint, why: str) -> bool:
        """Queues a point again whose worker died. Returns False where it died too often."""
        retries = int(point.optuna_trial.user_attrs.get(RETRIES, 0)) + 1
        if retries > MAX_RETRIES:
            return False
        stored = next(trial for trial in self._trials() if trial.number == point.number)
        self._requeue(stored, why, retries)
        return True

    def best(self) -> FrozenTrial | None:
        """Returns the best complete point that the rules allow, by the first objective; the
        earliest of equals."""
        return self._best_of(self._trials())

    def tuned(self) -> Trial | None:
        """Returns the trial of the best point; None where no point is complete."""
        best = self.best()
        return None if best is None else self.trial_of(best)

    def pareto_front(self) -> list[FrozenTrial]:
        """Returns the complete points that the rules allow and no other such point dominates."""
        allowed = [t for t in self._trials() if self._may_win(t)]
        columns = [
            (-1 if objective.direction == "max" else 1) * resolve([t.values[i] for t in allowed])
            for i, objective in enumerate(self.search.objectives)
        ]
        losses = list(zip(*columns, strict=True))
        return [
            trial
            for trial, own in zip(allowed, losses, strict=True)
            if not any(dominates(other, own) for other in losses)
        ]

    def trial_of(self, optuna_trial: FrozenTrial) -> Trial:
        """Returns the trial of a stored point. Raises InvalidPoint where it has none any more."""
        stored = optuna_trial.params.items()
        return self.plan.trial({f: decode(self._dimensions[f], value) for f, value in stored})

    def outcome_counts(self) -> Mapping[str, int]:
        """Counts the points of the budget by outcome: done, pruned, diverged, failed, …"""
        counts = dict.fromkeys(("done", "pruned", "diverged", "failed", UNMEASURED, "running"), 0)
        for optuna_trial in self._trials():
            if is_counted(optuna_trial):
                outcome = optuna_trial.user_attrs.get(OUTCOME, "failed")
                counts[_OUTCOMES.get(optuna_trial.state, outcome)] += 1
        return counts

    def _draw(self, optuna_trial: optuna.Trial) -> SearchPoint:
        """Lets the sampler propose the point's values.

        Raises InvalidPoint where the point is left out, _NotNeeded where the study needs none, and
        UpdateFinishedTrialError where another machine has taken it over meanwhile.
        """
        if self.shared:
            optuna_trial.set_user_attr(OWNER, process_tag())
            if self._is_repeated(optuna_trial):
                raise _NotNeeded("it was queued twice, or was not lost after all")
        trial = self._proposals.suggest(optuna_trial)
        if self.shared and self.search.trials is not None:
            earlier = [t for t in self._trials() if t.number < optuna_trial.number]
            if sum(map(is_counted, earlier)) >= self.search.trials:
                raise _NotNeeded("another process was faster")
        planned = self._planned(trial, optuna_trial.number)
        trial_ids = [one.trial_id for one in planned]
        optuna_trial.set_user_attr(TRIALS, trial_ids)
        self._cached_trials = None
        if self.shared and self._is_trained_elsewhere(trial_ids):
            raise _TrainedElsewhere("another process trains it")
        return SearchPoint(self, optuna_trial, planned)

    def _is_trained_elsewhere(self, trial_ids: Sequence[str]) -> bool:
        """Whether another process trains a point with these trials.

        Each process writes its ids before it looks, so that of two that draw one point at once,
        one withdraws, or both.
        """
        return any(
            t.state is TrialState.RUNNING
            and t.user_attrs.get(TRIALS) == trial_ids
            and t.user_attrs.get(OWNER) != process_tag()
            for t in self._trials()
        )

    def _drop(self, optuna_trial: optuna.Trial, why: str, left_out: bool = False) -> None:
        """Ends a point that is not trained and does not count."""
        self._cached_trials = None
        with suppress(UpdateFinishedTrialError):  # Another machine has taken it over.
            if left_out:
                optuna_trial.set_user_attr(LEFT_OUT, True)
            optuna_trial.set_user_attr(UNCOUNTED, why)
            self.optuna_study.tell(optuna_trial, state=TrialState.FAIL, skip_if_finished=True)

    def _has_queued_points(self) -> bool:
        return any(trial.state is TrialState.WAITING for trial in self._trials())

    def _has_no_point_left(self, n_left_out: int) -> bool:
        """Whether no point can be drawn any more, as far as a list of all points can show it."""
        if self._has_queued_points():
            return False
        if self.search.sampler.name == "grid":
            return not self._proposals.untried(self._trials())
        return n_left_out == 1 and self.plan.is_listable and not self.plan.allowed_points

    def _end(self, n_left_out: int) -> None:
        """Ends the study before its budget is used up."""
        if n_left_out < MAX_LEFT_OUT:
            n_allowed = len(self.plan.allowed_points)
            self._exhausted = (
                f"its {plural(n_allowed, 'point')} that the rules allow were tried"
                if n_allowed
                else "the rules leave out every point of its space"
            )
        else:
            last = self._trials()[-1].user_attrs.get(UNCOUNTED, "")
            self._exhausted = f"{n_left_out} points in a row were left out; the last: {last}"
            stored = {"rules": self.plan.rules, "why": self._exhausted}
            self.optuna_study.set_user_attr(EXHAUSTED, stored)

    def _read_first_step(self) -> int:
        """Returns the step of the first epoch: 0, or 1 in a study that an earlier version began."""
        if FIRST_STEP not in self.optuna_study.user_attrs and not self._trials():
            self.optuna_study.set_user_attr(FIRST_STEP, 0)
        return int(self.optuna_study.user_attrs.get(FIRST_STEP, 1))

    def _stored_exhaustion(self) -> str:
        """Returns why an earlier process found no point left under the same rules."""
        stored = self.optuna_study.user_attrs.get(EXHAUSTED, {})
        return str(stored["why"]) if stored.get("rules") == self.plan.rules else ""

    def _planned(self, trial: Trial, number: int) -> list[PlannedTrial]:
        """Plans a point's trial on each of the search's seeds."""
        name = f"{self.plan.label} #{number} {self.plan.describe(trial)}".strip()
        return self.plan.planned_trials(trial, self.search.seeds, name)

    def _trials(self) -> list[FrozenTrial]:
        """Returns all points. A storage of this process alone is read again only after a change."""
        if self.shared or self._cached_trials is None:
            self._cached_trials = self.optuna_study.get_trials(deepcopy=False)
        return self._cached_trials

    def _spent(self) -> tuple[int, float]:
        """Returns the points that were asked for, and the seconds that the ended ones took.

        Points that have ended do not change, and are added up once.
        """
        trials = self._trials()
        points, seconds, n_ended = self._spent_by_ended
        while n_ended < len(trials) and trials[n_ended].state.is_finished():
            points += is_counted(trials[n_ended])
            seconds += seconds_of(trials[n_ended])
            n_ended += 1
        self._spent_by_ended = points, seconds, n_ended
        rest = trials[n_ended:]
        return sum(map(is_counted, rest), points), sum(map(seconds_of, rest), seconds)

    def _n_since_best(self) -> int:
        """Returns how many finished points followed the last that was better than all before it."""
        ended = [t for t in self._trials() if is_counted(t) and t.state is not TrialState.RUNNING]
        best = self._best_of(ended)
        return sum(best is None or trial.number > best.number for trial in ended)

    def _best_of(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        complete = [trial for trial in trials if self._may_win(trial)]
        values = [trial.values[0] for trial in complete]
        place = earliest_best(values, self.search.objectives[0].direction)
        return None if place is None else complete[place]

    def _may_win(self, optuna_trial: FrozenTrial) -> bool:
        """Whether a point is complete, and no rule that was added after it leaves it out."""
        if optuna_trial.state is not TrialState.COMPLETE:
            return False
        number = optuna_trial.number
        if number not in self._allowed:
            try:
                self.trial_of(optuna_trial)
            except InvalidPoint:
                self._allowed[number] = False
            else:
                self._allowed[number] = True
        return self._allowed[number]

    def n_barred(self) -> int:
        """Returns how many complete points a rule leaves out that was added after them."""
        complete = [t for t in self._trials() if t.state is TrialState.COMPLETE]
        return sum(not self._may_win(trial) for trial in complete)

    def _enqueue_known_points(self) -> None:
        if self.search.sampler.name == "grid":
            return  # The grid visits each of its points once.
        stored = {trial.user_attrs.get(KNOWN) for trial in self._trials()}
        for point in self.plan.known_points:
            params = {name: encode(self._dimensions[name], value) for name, value in point.items()}
            key = str(sorted(params.items()))
            if key not in stored:
                self.optuna_study.enqueue_trial(params, user_attrs={KNOWN: key})
                self._cached_trials = None

    def _requeue(self, lost: FrozenTrial, why: str, retries: int) -> None:
        """Queues a lost point again, and then fails it. No point is queued twice.

        In this order a kill in between loses nothing. If the sampler had not drawn all of a
        point, it draws a new one.
        """
        params = {**lost.system_attrs.get("fixed_params", {})}
        if TRIALS in lost.user_attrs:
            params |= lost.params
        attributes = {RETRY_OF: lost.number, RETRIES: retries}
        if KNOWN in lost.user_attrs:
            attributes[KNOWN] = lost.user_attrs[KNOWN]
        repeated = {trial.user_attrs.get(RETRY_OF) for trial in self._trials()}
        self._cached_trials = None
        if params and lost.number not in repeated:
            self.optuna_study.enqueue_trial(params, user_attrs=attributes)
        # Its own process, or another observer, may have ended the point meanwhile.
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(lost._trial_id, UNCOUNTED, why)
            self.optuna_study.tell(lost.number, state=TrialState.FAIL, skip_if_finished=True)

    def _is_repeated(self, optuna_trial: optuna.Trial) -> bool:
        """Whether the lost point that this one repeats has ended, or an earlier point repeats it.

        Two observers that see a process dead at once queue its point twice; the process may also
        tell its point after all.
        """
        lost = optuna_trial.user_attrs.get(RETRY_OF)
        return lost is not None and any(
            (other.number == lost and other.state.is_finished() and is_counted(other))
            or (other.number < optuna_trial.number and other.user_attrs.get(RETRY_OF) == lost)
            for other in self._trials()
        )


def _name(experiment: str, plan: StudyPlan) -> str:
    return f"{experiment}/{plan.label} [{plan.key}]"


def _is_stored(storage: BaseStorage, name: str, unless: str) -> bool:
    """Whether a storage has a study of this name, and none of the other name."""
    names = {study.study_name for study in storage.get_all_studies()}
    return name in names and unless not in names


def dominates(losses: Sequence[float], others: Sequence[float]) -> bool:
    """Whether one point is at least as good in every objective, and better in one."""
    pairs = list(zip(losses, others, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
