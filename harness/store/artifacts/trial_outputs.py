"""What a trial's artifacts are made from, kept on disk until its sweep ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.checksummed import load_or_warn, write_checksummed
from harness.core.metrics import Goal, best_epoch
from harness.core.records import Measured, TestOutputs

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
        for folder in (self.folder, self.folder.parent):
            if not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()

    def _path(self, trial_id: str, run_id: str) -> Path:
        name = f"{trial_id}.{run_id}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a trial's and a run's id: {name!r}")
        return self.folder / (name + _SUFFIX)
