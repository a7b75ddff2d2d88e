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
from typing import Final, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.experiment.experiment import Search
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.store.coordination.processes import process_tag
from harness.tuning.samplers import decode, encode, make_pruner, make_sampler, suggest
from harness.tuning.storage import OWNER, StalePoints, StudyStorage
from harness.tuning.study_plan import InvalidPoint, StudyPlan, applies, limits, with_field

# User attributes of a point.
UNCOUNTED: Final = "uncounted"
"""Why the point is no part of the budget."""
SECONDS: Final = "seconds"
"""Seconds of training, where the budget is one of time."""
OUTCOME: Final = "outcome"
"""How a point without a value ended."""
RETRY_OF: Final = "retry_of"
"""The number of the lost point that this one repeats."""
RETRIES: Final = "retries"
"""How often the point's worker has died."""
KNOWN: Final = "known"
"""Which known point this one is."""
TRIALS: Final = "trial_ids"
"""The ids of the point's trials."""

MAX_RETRIES: Final = 2
"""How often a point is retried whose worker died."""
MAX_INVALID: Final = 1000
"""After how many invalid points in a row the study gives up."""

_OUTCOMES: Final = {TrialState.COMPLETE: "done", TrialState.RUNNING: "running"}
_logger = logging.getLogger(__name__)


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

    def report(self, value: float, step: int) -> None:
        """Reports the value after an epoch, or after a seed, to the pruner."""
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
        self.plan = plan
        self.search: Search = plan.search
        self._dimensions = {dimension.field: dimension for dimension in plan.dimensions}
        self._storage = storage.storage
        self._shared = storage.shared
        self._cached_trials: list[FrozenTrial] | None = None
        self._spent_by_ended = 0, 0.0, 0
        self._sign = -1 if plan.search.objectives[0].direction == "max" else 1
        directions: list[Literal["minimize", "maximize"]] = [
            "maximize" if o.direction == "max" else "minimize" for o in plan.search.objectives
        ]
        searched = self._dimensions.get("epochs")
        epochs = [plan.base.trial.epochs, *(limits(searched) if searched else ())]
        self.optuna_study = optuna.create_study(
            study_name=f"{experiment}/{plan.label} [{plan.key}]",
            storage=storage.storage,
            directions=directions,
            pruner=make_pruner(self.search, int(max(epochs))),
            load_if_exists=True,
        )
        self._stale_points = StalePoints(self.optuna_study)
        self._enqueue_known_points()

    def recover_lost(self) -> int:
        """Fails the points whose process has died, and queues them again. Returns their number.

        Only repeated calls detect dead processes on other machines.
        """
        trials = self._trials()
        if self._shared:
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
        """Whether the budget is used up, or the study's patience."""
        search = self.search
        points, seconds = self._spent()
        if search.trials is not None and points >= search.trials:
            return True
        if search.minutes is not None and seconds >= search.minutes * 60:
            return True
        return search.patience is not None and self._n_since_best() >= search.patience

    def ask(self) -> SearchPoint | None:
        """Returns the next point; None where the study is over.

        Raises InvalidPoint where the space gives no valid point any more.
        """
        for _ in range(MAX_INVALID):
            if self.is_over():
                return None
            self.optuna_study.sampler = make_sampler(self.plan, self.n_asked())
            optuna_trial = self.optuna_study.ask()
            self._cached_trials = None
            try:
                return self._draw(optuna_trial)
            except InvalidPoint as error:
                why = str(error)
            except UpdateFinishedTrialError:
                continue  # Another machine took this process for dead.
            self._cached_trials = None
            with suppress(UpdateFinishedTrialError):  # Another machine has taken it over.
                optuna_trial.set_user_attr(UNCOUNTED, why)
                self.optuna_study.tell(optuna_trial, state=TrialState.FAIL, skip_if_finished=True)
        raise InvalidPoint(
            f"study {self.plan.label!r}: {MAX_INVALID} points in a row gave no valid trial; the "
            f"last: {self._trials()[-1].user_attrs.get(UNCOUNTED, '')}"
        )

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
            if self._shared:
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
        """Returns the best complete point by the first objective; the earliest of equals."""
        complete = [t for t in self._trials() if t.state is TrialState.COMPLETE]
        return min(complete, key=lambda t: (self._sign * t.values[0], t.number), default=None)

    def tuned(self) -> Trial | None:
        """Returns the trial of the best point; None where no point is complete."""
        best = self.best()
        return None if best is None else self.trial_of(best)

    def pareto_front(self) -> list[FrozenTrial]:
        """Returns the complete points that no other point dominates."""
        return sorted(self.optuna_study.best_trials, key=lambda trial: trial.number)

    def trial_of(self, optuna_trial: FrozenTrial) -> Trial:
        """Returns the trial of a stored point. Raises InvalidPoint where it has none any more."""
        stored = optuna_trial.params.items()
        return self.plan.trial({f: decode(self._dimensions[f], value) for f, value in stored})

    def outcome_counts(self) -> Mapping[str, int]:
        """Counts the points of the budget by outcome: done, pruned, diverged, failed, running."""
        counts = dict.fromkeys(("done", "pruned", "diverged", "failed", "running"), 0)
        for optuna_trial in self._trials():
            if _is_counted(optuna_trial):
                outcome = optuna_trial.user_attrs.get(OUTCOME, "failed")
                counts[_OUTCOMES.get(optuna_trial.state, outcome)] += 1
        return counts

    def _draw(self, optuna_trial: optuna.Trial) -> SearchPoint:
        """Lets the sampler propose the point's values.

        Raises InvalidPoint where the point is not to be trained, and UpdateFinishedTrialError where
        another machine has taken it over meanwhile.
        """
        if self._shared:
            optuna_trial.set_user_attr(OWNER, process_tag())
            if self._is_repeated(optuna_trial):
                raise InvalidPoint("it was queued twice, or was not lost after all")
        trial = self._suggest_trial(optuna_trial)
        if self._shared and self.search.trials is not None:
            earlier = [t for t in self._trials() if t.number < optuna_trial.number]
            if sum(map(_is_counted, earlier)) >= self.search.trials:
                raise InvalidPoint("another process was faster")
        planned = self._planned(trial, optuna_trial.number)
        optuna_trial.set_user_attr(TRIALS, [one.trial_id for one in planned])
        self._cached_trials = None
        return SearchPoint(self, optuna_trial, planned)

    def _suggest_trial(self, optuna_trial: optuna.Trial) -> Trial:
        """Draws each field that applies to the components drawn before it."""
        trial, point = self.plan.base.trial, {}
        for dimension in self.plan.dimensions:
            root = dimension.field.partition(".")[0]
            if applies(dimension.field, trial):
                point[dimension.field] = suggest(optuna_trial, dimension)
                if root == dimension.field:
                    trial = with_field(trial, root, point[root])
        return self.plan.trial(point)

    def _planned(self, trial: Trial, number: int) -> list[PlannedTrial]:
        """Plans a point's trial on each of the search's seeds."""
        name = f"{self.plan.label} #{number} {self.plan.describe(trial)}".strip()
        return self.plan.planned_trials(trial, self.search.seeds, name)

    def _trials(self) -> list[FrozenTrial]:
        """Returns all points. A storage of this process alone is read again only after a change."""
        if self._shared or self._cached_trials is None:
            self._cached_trials = self.optuna_study.get_trials(deepcopy=False)
        return self._cached_trials

    def _spent(self) -> tuple[int, float]:
        """Returns the points that were asked for, and the seconds that the ended ones took.

        Points that have ended do not change, and are added up once.
        """
        trials = self._trials()
        points, seconds, n_ended = self._spent_by_ended
        while n_ended < len(trials) and trials[n_ended].state.is_finished():
            points += _is_counted(trials[n_ended])
            seconds += _seconds_of(trials[n_ended])
            n_ended += 1
        self._spent_by_ended = points, seconds, n_ended
        rest = trials[n_ended:]
        return sum(map(_is_counted, rest), points), sum(map(_seconds_of, rest), seconds)

    def _n_since_best(self) -> int:
        """Returns how many finished points followed the last that was better than all before it."""
        best: float | None = None
        n_since = 0
        for trial in self._trials():
            if not _is_counted(trial) or trial.state is TrialState.RUNNING:
                continue
            n_since += 1
            if trial.state is TrialState.COMPLETE:
                value = self._sign * trial.values[0]
                if best is None or value < best:
                    best, n_since = value, 0
        return n_since

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
            (other.number == lost and other.state.is_finished() and _is_counted(other))
            or (other.number < optuna_trial.number and other.user_attrs.get(RETRY_OF) == lost)
            for other in self._trials()
        )


def _is_counted(optuna_trial: FrozenTrial) -> bool:
    """Whether a point is part of the budget, finished or not."""
    return optuna_trial.state is not TrialState.WAITING and UNCOUNTED not in optuna_trial.user_attrs


def _seconds_of(optuna_trial: FrozenTrial) -> float:
    return float(optuna_trial.user_attrs.get(SECONDS, 0.0)) if _is_counted(optuna_trial) else 0.0
