"""Evidence of the best trials, on disk until their sweep ends."""

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
        """The selection metric at its best epoch; None where it was never measured."""
        top = best_epoch(self.history, goal)
        return None if top is None else top.values[goal.metric]


@dataclass(frozen=True, slots=True)
class PendingOutputs:
    """A folder of one sealed file a trial. Empty and absent are the same."""

    folder: Path

    def held(self) -> Iterator[tuple[str, str]]:
        """(trial id, run id) of each file, without torch."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _NAME.fullmatch(path.stem):
                trial_id, _, run_id = path.stem.partition(".")
                yield trial_id, run_id

    def save(self, kept: TrialOutputs) -> None:
        """Whole or not at all."""
        write_checksummed(self._path(kept.trial_id, kept.run_id), _primitives(kept))

    def load(self, trial_id: str, run_id: str) -> TrialOutputs | None:
        """None, with a warning, where the file is damaged."""
        path = self._path(trial_id, run_id)
        stored = load_or_warn(path, "the trial's figures and weights are lost")
        return None if stored is None else _kept(stored)

    def remove(self, trial_id: str, run_id: str) -> None:
        """Forget a trial's evidence; folders go with the last."""
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


def _primitives(kept: TrialOutputs) -> dict[str, object]:
    test_outputs = kept.test_outputs
    return {
        "trial_id": kept.trial_id,
        "run_id": kept.run_id,
        "history": [(point.epoch, dict(point.values), point.examples) for point in kept.history],
        "state_dict": dict(test_outputs.state_dict),
        "outputs": test_outputs.outputs,
        "targets": test_outputs.targets,
        "inputs": test_outputs.inputs,
    }


def _kept(stored: dict[str, object]) -> TrialOutputs:
    history = stored.pop("history")
    trial_id, run_id = str(stored.pop("trial_id")), str(stored.pop("run_id"))
    return TrialOutputs(
        trial_id,
        run_id,
        history=tuple(Measured(*point) for point in history),  # type: ignore[attr-defined]
        test_outputs=TestOutputs(**stored),  # type: ignore[arg-type]
    )
