"""Chooses whose figures, weights and model are stored: the best trial of each group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.components.base import Dataset, Model
from harness.core.metrics import Goal
from harness.core.records import Outcome
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice
from harness.store.artifacts.trial_outputs import PendingOutputs, TrialOutputs
from harness.store.read.runs import RunSummary

Group = tuple[Choice[Dataset], Choice[Model], str]


def selection_group(planned: PlannedTrial) -> Group:
    """Returns the group of a trial: one data set and one model, each with its options, and the
    optimizer's name. The best trial of each group gets artifacts."""
    trial = planned.trial
    return trial.dataset, trial.model, trial.optimizer.name


@dataclass(frozen=True, slots=True)
class Candidate:
    """A done trial whose outputs are pending, or whose artifacts are stored already."""

    planned: PlannedTrial
    run_id: str
    score: float | None
    stored: bool

    def beats(self, other: Candidate | None, goal: Goal) -> bool:
        """Returns whether it is better. Of equals the earlier stays; a trial's newer run replaces
        its older one."""
        if other is None or other.planned.trial_id == self.planned.trial_id:
            return True
        if self.score is None:
            return False
        return other.score is None or goal.better(self.score, other.score)


class BestTrials:
    """The best candidate of each group so far; only their outputs stay pending.

    earlier: the runs in the store. What an interrupted sweep left pending takes part.
    """

    def __init__(
        self,
        pending: PendingOutputs,
        goal: Goal,
        trials: Iterable[PlannedTrial],
        earlier: Mapping[str, RunSummary],
    ) -> None:
        self._pending = pending
        self._goal = goal
        self._best: dict[Group, Candidate] = {}
        self._seen: set[str] = set()
        self._trials = {planned.trial_id: planned for planned in trials}
        for candidate in _earlier_candidates(pending, self._trials.values(), earlier):
            for loser in self._consider(candidate):
                self.discard(loser)

    def offer(self, planned: PlannedTrial, outputs: TrialOutputs) -> list[Candidate]:
        """Saves the outputs of a trial that has ended, if it is the best of its group so far.

        Returns the candidates that it beats, to be discarded once the trial's run is in the store.
        """
        candidate = Candidate(planned, outputs.run_id, outputs.score(self._goal), stored=False)
        if not candidate.beats(self._best.get(selection_group(planned)), self._goal):
            return []
        self._pending.save(outputs)
        return self._consider(candidate)

    def discard(self, candidate: Candidate) -> None:
        """Removes a candidate's pending outputs."""
        self._pending.remove(candidate.planned.trial_id, candidate.run_id)

    def winners(self) -> list[Candidate]:
        """Returns those whose artifacts are still to be stored."""
        return [candidate for candidate in self._best.values() if not candidate.stored]

    def test_outputs(self, candidate: Candidate) -> TrialOutputs | None:
        """Returns a winner's outputs; None, after a warning, if their file is damaged."""
        return self._pending.load(candidate.planned.trial_id, candidate.run_id)

    def clear(self, everything: bool = True) -> None:
        """Removes the pending outputs of this plan's trials.

        everything: also those that other processes left; False while another one writes.
        """
        for trial_id, run_id in list(self._pending.ids()):
            if trial_id in self._trials and (everything or run_id in self._seen):
                self._pending.remove(trial_id, run_id)

    def _consider(self, candidate: Candidate) -> list[Candidate]:
        """Takes a candidate into account. Returns those whose outputs are no longer needed."""
        self._seen.add(candidate.run_id)
        key = selection_group(candidate.planned)
        best = self._best.get(key)
        loser: Candidate | None = candidate
        if candidate.beats(best, self._goal):
            self._best[key], loser = candidate, best
        if loser is None or loser.stored or loser.run_id == self._best[key].run_id:
            return []
        return [loser]


def _earlier_candidates(
    pending: PendingOutputs, trials: Iterable[PlannedTrial], earlier: Mapping[str, RunSummary]
) -> Iterator[Candidate]:
    """Yields the done trials that have outputs or artifacts, in the plan's order."""
    ids = set(pending.ids())
    for planned in trials:
        run = earlier.get(planned.trial_id)
        if run is None or run.outcome is not Outcome.DONE:
            continue
        if run.has_artifacts or (planned.trial_id, run.run_id) in ids:
            yield Candidate(planned, run.run_id, run.best, stored=run.has_artifacts)
