"""Chooses whose figures, weights and model are stored: the best trial of each group.

The outputs from which they are made stay on disk until the sweep ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.components.base import Dataset, Model
from harness.core.files import load_or_warn, write_checksummed
from harness.core.metrics import Goal, best_epoch
from harness.core.records import Measured, Outcome, TestOutputs
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice
from harness.store.read.runs import RunSummary

Group = tuple[Choice[Dataset], Choice[Model], str]

_SUFFIX = ".pt"
_NAME = re.compile(r"[0-9a-f]{1,64}\.[\w-]{1,64}")


@dataclass(frozen=True, slots=True)
class TrialOutputs:
    """What a trial's figures, weights and model are made from."""

    trial_id: str
    run_id: str
    history: tuple[Measured, ...]
    test_outputs: TestOutputs

    def score(self, goal: Goal) -> float | None:
        """Returns the selection metric at its best epoch; None if it was never measured."""
        best = best_epoch(self.history, goal)
        return None if best is None else best.values[goal.metric]


@dataclass(frozen=True, slots=True)
class PendingOutputs:
    """A folder with one checksummed file for each trial. It exists only while it has files."""

    folder: Path

    def ids(self) -> Iterator[tuple[str, str]]:
        """Yields the trial id and run id of each file. Torch is not imported."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _NAME.fullmatch(path.stem):
                trial_id, _, run_id = path.stem.partition(".")
                yield trial_id, run_id

    def save(self, outputs: TrialOutputs) -> None:
        """Writes a trial's outputs, atomically. Raises OSError."""
        content = {
            "trial_id": outputs.trial_id,
            "run_id": outputs.run_id,
            "history": [(m.epoch, dict(m.values), m.examples) for m in outputs.history],
            "state_dict": dict(outputs.test_outputs.state_dict),
            "outputs": outputs.test_outputs.outputs,
            "targets": outputs.test_outputs.targets,
            "inputs": outputs.test_outputs.inputs,
        }
        write_checksummed(self._path(outputs.trial_id, outputs.run_id), content)

    def load(self, trial_id: str, run_id: str) -> TrialOutputs | None:
        """Returns a trial's outputs; None, after a warning, if the file is damaged."""
        path = self._path(trial_id, run_id)
        content = load_or_warn(path, "the trial's figures and weights are lost")
        if content is None:
            return None
        history = tuple(Measured(*measured) for measured in content.pop("history"))
        trial_id, run_id = str(content.pop("trial_id")), str(content.pop("run_id"))
        return TrialOutputs(trial_id, run_id, history, TestOutputs(**content))

    def remove(self, trial_id: str, run_id: str) -> None:
        """Removes a trial's file, and the folders that are then empty."""
        self._path(trial_id, run_id).unlink(missing_ok=True)
        with suppress(OSError):  # One that is not empty stays.
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def _path(self, trial_id: str, run_id: str) -> Path:
        name = f"{trial_id}.{run_id}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a trial's and a run's id: {name!r}")
        return self.folder / (name + _SUFFIX)


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
        ids = set(pending.ids())
        for trial_id, planned in self._trials.items():
            run = earlier.get(trial_id)
            if run is None or run.outcome is not Outcome.DONE:
                continue
            if run.has_artifacts or (trial_id, run.run_id) in ids:
                candidate = Candidate(planned, run.run_id, run.best, run.has_artifacts)
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
