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
    """Trials among which one is kept: those of one data set and one model, each with its options,
    and of one optimizer by name."""
    trial = planned.trial
    return trial.dataset, trial.model, trial.optimizer.name


@dataclass(frozen=True, slots=True)
class Candidate:
    """A done trial whose evidence lies in the spool, or whose artifacts are stored already."""

    planned: PlannedTrial
    run_id: str
    score: float | None
    stored: bool

    def beats(self, other: Candidate | None, goal: Goal) -> bool:
        """Of equals the earlier stays; a trial's newer run replaces its older one."""
        if other is None or other.planned.trial_id == self.planned.trial_id:
            return True
        if self.score is None:
            return False
        return other.score is None or goal.better(self.score, other.score)


class BestTrials:
    """The best candidate of each group so far; only theirs stay in the spool.

    earlier: runs that stand in the store. What an interrupted sweep left in the spool takes part.
    """

    def __init__(
        self,
        spool: PendingOutputs,
        goal: Goal,
        trials: Iterable[PlannedTrial],
        earlier: Mapping[str, RunSummary],
    ) -> None:
        self._spool = spool
        self._goal = goal
        self._best: dict[Group, Candidate] = {}
        self._seen: set[str] = set()
        self._trials = {planned.trial_id: planned for planned in trials}
        for candidate in candidates(spool, self._trials.values(), earlier):
            for loser in self._consider(candidate):
                self.discard(loser)

    def offer(self, planned: PlannedTrial, kept: TrialOutputs) -> list[Candidate]:
        """Adds a trial that has ended to the spool if it is the best of its group so far.

        Returns the candidates that it beats, whose files are to be discarded once the trial's run
        is in the store.
        """
        candidate = Candidate(planned, kept.run_id, kept.score(self._goal), stored=False)
        if not candidate.beats(self._best.get(selection_group(planned)), self._goal):
            return []
        self._spool.save(kept)
        return self._consider(candidate)

    def discard(self, candidate: Candidate) -> None:
        """Removes a candidate's files from the spool."""
        self._spool.remove(candidate.planned.trial_id, candidate.run_id)

    def winners(self) -> list[Candidate]:
        """Those whose artifacts are still to be stored."""
        return [candidate for candidate in self._best.values() if not candidate.stored]

    def test_outputs(self, candidate: Candidate) -> TrialOutputs | None:
        """What the spool holds of a winner; None, with a warning, where it is damaged."""
        return self._spool.load(candidate.planned.trial_id, candidate.run_id)

    def clear(self, everything: bool = True) -> None:
        """Empty the spool of this plan's trials, whoever left them; or, where other harnesses are
        at work, only of those that took part here."""
        for trial_id, run_id in list(self._spool.held()):
            if trial_id in self._trials and (everything or run_id in self._seen):
                self._spool.remove(trial_id, run_id)

    def _consider(self, candidate: Candidate) -> list[Candidate]:
        """Takes a candidate into account. Returns those whose files are no longer needed."""
        self._seen.add(candidate.run_id)
        key = selection_group(candidate.planned)
        before = self._best.get(key)
        loser: Candidate | None = candidate
        if candidate.beats(before, self._goal):
            self._best[key], loser = candidate, before
        if loser is None or loser.stored or loser.run_id == self._best[key].run_id:
            return []
        return [loser]


def candidates(
    spool: PendingOutputs, trials: Iterable[PlannedTrial], earlier: Mapping[str, RunSummary]
) -> Iterator[Candidate]:
    """The plan's done trials that can be kept, in the plan's order."""
    held = set(spool.held())
    for planned in trials:
        run = earlier.get(planned.trial_id)
        if run is None or run.outcome is not Outcome.DONE:
            continue
        if run.has_artifacts or (planned.trial_id, run.run_id) in held:
            yield Candidate(planned, run.run_id, run.best, stored=run.has_artifacts)
