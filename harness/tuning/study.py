"""A study's book: which points were asked, what became of them, and how much budget is left.

All of it stands in Optuna's storage and is read from there, so that a search goes on where it was
killed, and several machines share one budget.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.experiment.experiment import NumericDimension, Search
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.store.coordination.owner import owner
from harness.tuning.counting import (
    OUTCOME,
    SECONDS,
    UNCOUNTED,
    added,
    counts,
    ending,
    stale,
)
from harness.tuning.points import InvalidPoint, Point, StudyPlan, with_field
from harness.tuning.rounding import RoundingSampler
from harness.tuning.samplers import decoded, encoded, make_pruner, make_sampler, suggest
from harness.tuning.stale_points import OWNER, StalePoints
from harness.tuning.storage import StudyStorage

RETRY_OF: Final = "retry_of"
"""User attribute: the number of the lost point that this one repeats."""
RETRIES: Final = "retries"
KNOWN: Final = "known"
"""User attribute: the known point that this one is."""
TRIALS: Final = "trial_ids"
MOST_RETRIES: Final = 2
"""How often a point is tried again whose worker died."""
MOST_REFUSED: Final = 1000
"""Points in a row that may be no trials before the study is given up."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SearchPoint:
    """A point being tried. planned: its trial on each of the search's seeds. at: the seed in hand.
    values: of the objectives, for each seed done. pruned_at: the epoch (or the seed's place, from
    1) after which the pruner stopped it."""

    study: TuningStudy
    trial: optuna.Trial
    planned: list[PlannedTrial]
    at: int = 0
    values: list[Sequence[float]] = field(default_factory=list)
    seconds: float = 0.0
    pruned_at: int | None = None

    @property
    def current(self) -> PlannedTrial:
        return self.planned[self.at]

    @property
    def number(self) -> int:
        return int(self.trial.number)

    @property
    def is_retry(self) -> bool:
        """Whether a worker died that trained the point before."""
        return int(self.trial.user_attrs.get(RETRIES, 0)) > 0

    def report(self, value: float, step: int) -> None:
        """Tell the pruner of an epoch or a seed."""
        with suppress(UpdateFinishedTrialError):  # Another machine has taken the point over.
            self.trial.report(value, step)

    def should_prune(self) -> bool:
        """Whether the pruner stops the point; never one that another machine has taken over."""
        with suppress(UpdateFinishedTrialError):
            return bool(self.trial.should_prune())
        return False


class TuningStudy:
    """The book of one study. Not thread-safe; others may write to the same storage."""

    def __init__(self, opened: StudyStorage, plan: StudyPlan, experiment: str) -> None:
        self.plan = plan
        self.search: Search = plan.search
        self._shared = opened.shared
        self._read: list[FrozenTrial] | None = None
        self._ended = 0, 0.0, 0
        epochs = max((plan.base.trial.epochs, *_bounds(plan, "epochs")))
        directions: list[Literal["minimize", "maximize"]] = [
            "maximize" if o.direction == "max" else "minimize" for o in self.objectives
        ]
        self._storage = opened.storage
        self.optuna_study = optuna.create_study(
            study_name=f"{experiment}/{plan.label} [{plan.key}]",
            storage=opened.storage,
            directions=directions,
            pruner=make_pruner(self.search, epochs),
            load_if_exists=True,
        )
        self._stale_points = StalePoints(self.optuna_study)
        self._enqueue_known()

    @property
    def objectives(self) -> tuple[Any, ...]:
        return self.search.objectives

    def recover_lost(self) -> int:
        """Tell points that died with their process as failed, and queue them again. Returns how
        many. Those of another machine are found where this is called again and again."""
        trials = self._trials()
        if self._shared:
            lost = self._stale_points.among(trials)
        else:  # The journal is ours alone, and this process has asked nothing yet.
            lost = [trial for trial in trials if trial.state is TrialState.RUNNING]
        for trial in lost:
            self._requeue(trial, "its process died", retries=0)
        return len(lost)

    def n_asked(self) -> int:
        """Points of the budget that were asked, finished or not."""
        return self._spent()[0]

    def remaining(self) -> int | None:
        """Points still to be asked; None where only time limits them."""
        if self.is_over():
            return 0
        return None if self.search.trials is None else max(0, self.search.trials - self.n_asked())

    def is_over(self) -> bool:
        """Whether the budget is used up, or nothing has improved for too long."""
        search = self.search
        points, seconds = self._spent()
        if search.trials is not None and points >= search.trials:
            return True
        if search.minutes is not None and seconds >= search.minutes * 60:
            return True
        if search.patience is None:
            return False
        counted = [trial for trial in self._trials() if counts(trial)]
        upward = self.objectives[0].direction == "max"
        return stale(counted, upward) >= search.patience

    def ask(self) -> SearchPoint | None:
        """The next point; None where the study is over.

        Raises InvalidPoint where the space gives no trial any more.
        """
        for _ in range(MOST_REFUSED):
            if self.is_over():
                return None
            self.optuna_study.sampler = RoundingSampler(make_sampler(self.plan, self.n_asked()))
            trial = self.optuna_study.ask()
            self._read = None
            try:
                return self._drawn(trial)
            except InvalidPoint as refused:
                self._drop(trial, str(refused))
            except UpdateFinishedTrialError:
                continue  # Another machine took this one for dead.
        raise InvalidPoint(
            f"study {self.plan.label!r}: {MOST_REFUSED} points in a row were no trials; the last: "
            f"{self._trials()[-1].user_attrs.get(UNCOUNTED, '')}"
        )

    def planned_trials(self) -> Iterator[PlannedTrial]:
        """The trials of all points so far."""
        for trial in self._trials():
            if TRIALS in trial.user_attrs:
                with suppress(InvalidPoint):  # A skip rule is newer than the point.
                    made = self.plan.trial(self.values_of(trial))
                    yield from self._planned(made, trial.number)

    def tell(self, asked: SearchPoint, state: TrialState, outcome: str) -> None:
        """Close a point. Where it is complete, its value is the mean over its seeds.

        One that another machine has taken over is left as that machine told it; its runs stay.
        """
        self._read = None
        try:
            self._tell(asked, state, outcome)
        except UpdateFinishedTrialError:
            _logger.warning(
                "study %r: point #%d is not counted here: another machine has taken it over, "
                "having heard nothing of this one for too long",
                self.plan.label,
                asked.number,
            )

    def _tell(self, asked: SearchPoint, state: TrialState, outcome: str) -> None:
        if self._shared:
            trial_id = asked.trial._trial_id
            now = self._storage.get_trial(trial_id).state
            self._storage.check_trial_is_updatable(trial_id, now)
        if self.search.minutes is not None:
            asked.trial.set_user_attr(SECONDS, asked.seconds)
        if state is TrialState.COMPLETE:
            columns = zip(*asked.values, strict=True)
            means = [sum(c) / len(c) for c in columns]
            self.optuna_study.tell(asked.trial, means, state, skip_if_finished=True)
            return
        asked.trial.set_user_attr(OUTCOME, outcome)
        self.optuna_study.tell(asked.trial, state=state, skip_if_finished=True)

    def retry(self, asked: SearchPoint, why: str) -> bool:
        """Queue a point again whose worker died; False where that has happened too often."""
        retries = int(asked.trial.user_attrs.get(RETRIES, 0)) + 1
        if retries > MOST_RETRIES:
            return False
        frozen = next(trial for trial in self._trials() if trial.number == asked.number)
        self._requeue(frozen, why, retries)
        return True

    def best(self) -> FrozenTrial | None:
        """The best complete point by the first objective; the earliest of equals."""
        complete = [t for t in self._trials() if t.state is TrialState.COMPLETE]
        sign = -1 if self.objectives[0].direction == "max" else 1
        return min(complete, key=lambda t: (sign * t.values[0], t.number), default=None)

    def pareto_front(self) -> list[FrozenTrial]:
        """The complete points that no other beats in every objective."""
        return sorted(self.optuna_study.best_trials, key=lambda trial: trial.number)

    def values_of(self, trial: FrozenTrial) -> Point:
        """A stored point's values, as a trial takes them."""
        by_field = {dimension.field: dimension for dimension in self.plan.dimensions}
        return {name: decoded(by_field[name], value) for name, value in trial.params.items()}

    def outcome_counts(self) -> Mapping[str, int]:
        """Points of the budget by how they ended: "done", "pruned", "diverged", "failed"; and
        "running"."""
        found = dict.fromkeys(("done", "pruned", "diverged", "failed", "running"), 0)
        for trial in self._trials():
            if counts(trial):
                found[ending(trial)] += 1
        return found

    def _drawn(self, trial: optuna.Trial) -> SearchPoint:
        """Raises InvalidPoint where the point is none of this study's. Raises
        UpdateFinishedTrialError where another machine has taken it over meanwhile."""
        if self._shared:
            trial.set_user_attr(OWNER, owner())
            if self._is_needless(trial):
                raise InvalidPoint("it was queued twice, or is not lost after all")
        made = self._trial(trial)
        if self._shared and self._is_surplus(trial.number):
            raise InvalidPoint("another process was faster")
        planned = self._planned(made, trial.number)
        trial.set_user_attr(TRIALS, [one.trial_id for one in planned])
        self._read = None
        return SearchPoint(self, trial, planned)

    def _planned(self, made: Trial, number: int) -> list[PlannedTrial]:
        """A point's trial on each of the search's seeds."""
        name = f"{self.plan.label} #{number} {self.plan.described(made)}".strip()
        return self.plan.planned(made, self.search.seeds, name)

    def _trial(self, trial: optuna.Trial) -> Trial:
        """Draw each field that the components drawn before it have."""
        made, point = self.plan.base.trial, {}
        for dimension in self.plan.dimensions:
            root = dimension.field.partition(".")[0]
            if any(d.field == dimension.field for d in self.plan.applying(made)):
                point[dimension.field] = suggest(trial, dimension)
                if root == dimension.field:
                    made = with_field(made, root, point[root])
        return self.plan.trial(point)

    def _trials(self) -> list[FrozenTrial]:
        """All points. Of a storage that nobody else writes to, read again only once changed."""
        if self._shared or self._read is None:
            self._read = self.optuna_study.get_trials(deepcopy=False)
        return self._read

    def _spent(self) -> tuple[int, float]:
        """Points of the budget that were asked, and the seconds of those that have ended. What has
        ended changes no more, and is counted once."""
        trials = self._trials()
        points, seconds, ended = self._ended
        while ended < len(trials) and trials[ended].state.is_finished():
            points, seconds = added(points, seconds, trials[ended])
            ended += 1
        self._ended = points, seconds, ended
        for trial in trials[ended:]:
            points, seconds = added(points, seconds, trial)
        return points, seconds

    def _enqueue_known(self) -> None:
        if self.search.sampler.name == "grid":
            return  # Its points are the grid's, each once.
        by_field = {dimension.field: dimension for dimension in self.plan.dimensions}
        there = {trial.user_attrs.get(KNOWN) for trial in self._trials()}
        for point in self.plan.known:
            params = {name: encoded(by_field[name], value) for name, value in point.items()}
            key = str(sorted(params.items()))
            if key not in there:
                self.optuna_study.enqueue_trial(params, user_attrs={KNOWN: key})
                self._read = None

    def _requeue(self, trial: FrozenTrial, why: str, retries: int) -> None:
        """Queued before it is told as failed, and never twice: a kill in between loses nothing.

        A point that was not drawn to its end is drawn anew, as if it had never been begun.
        """
        params = {**trial.system_attrs.get("fixed_params", {})}
        if TRIALS in trial.user_attrs:
            params |= trial.params
        attributes = {RETRY_OF: trial.number, RETRIES: retries}
        if KNOWN in trial.user_attrs:
            attributes[KNOWN] = trial.user_attrs[KNOWN]
        repeated = {other.user_attrs.get(RETRY_OF) for other in self._trials()}
        self._read = None
        if params and trial.number not in repeated:
            self.optuna_study.enqueue_trial(params, user_attrs=attributes)
        with suppress(
            UpdateFinishedTrialError
        ):  # Told meanwhile, by its owner or another observer.
            self._storage.set_trial_user_attr(trial._trial_id, UNCOUNTED, why)
            self.optuna_study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _drop(self, trial: optuna.Trial, why: str) -> None:
        self._read = None
        with suppress(UpdateFinishedTrialError):  # Another machine has taken it over.
            trial.set_user_attr(UNCOUNTED, why)
            self.optuna_study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _is_needless(self, trial: optuna.Trial) -> bool:
        """Whether a lost point was queued twice, by two that saw its process dead at once, or was
        told by its own process after all."""
        lost = trial.user_attrs.get(RETRY_OF)
        return lost is not None and any(
            (other.number == lost and other.state.is_finished() and counts(other))
            or (other.number < trial.number and other.user_attrs.get(RETRY_OF) == lost)
            for other in self._trials()
        )

    def _is_surplus(self, number: int) -> bool:
        """Whether, of points asked by several processes at once, this one is beyond the budget."""
        if self.search.trials is None:
            return False
        earlier = sum(1 for t in self._trials() if t.number < number and counts(t))
        return earlier >= self.search.trials


def _bounds(plan: StudyPlan, name: str) -> list[int]:
    """The largest values that a searched field of integers may take."""
    for dimension in plan.dimensions:
        if dimension.field == name:
            return (
                [int(dimension.high)]
                if isinstance(dimension, NumericDimension)
                else [*dimension.values]
            )
    return []
