"""Evidence of the best trials, on disk until their sweep ends."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.history import Goal, best
from harness.records import Evidence, Measured

_SUFFIX = ".pt"
_NAME = re.compile(r"[0-9a-f]{1,64}\.[\w-]{1,64}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a trial's figures, weights and model are made from."""

    trial_id: str
    run_id: str
    history: tuple[Measured, ...]
    evidence: Evidence

    def score(self, goal: Goal) -> float | None:
        """The selection metric at its best epoch; None where it was never measured."""
        top = best(self.history, goal)
        return None if top is None else top.values[goal.metric]


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder of one file a trial: a line with the SHA-256 of what follows, then tensors and
    primitives as torch saves them. Empty and absent are the same."""

    folder: Path

    def held(self) -> Iterator[tuple[str, str]]:
        """(trial id, run id) of each file, without torch."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _NAME.fullmatch(path.stem):
                trial_id, _, run_id = path.stem.partition(".")
                yield trial_id, run_id

    def save(self, kept: Kept) -> None:
        """Whole or not at all: written beside its place, synced, then moved there."""
        import torch

        buffer = io.BytesIO()
        torch.save(_primitives(kept), buffer)
        content = buffer.getvalue()
        path = self._path(kept.trial_id, kept.run_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, trial_id: str, run_id: str) -> Kept | None:
        """None, with a warning, where the file is damaged."""
        import torch

        path = self._path(trial_id, run_id)
        try:
            checksum, _, content = path.read_bytes().partition(b"\n")
        except OSError as error:
            _logger.warning("cannot read %s: %s", path, error)
            return None
        if hashlib.sha256(content).hexdigest().encode() != checksum:
            _logger.warning("%s is damaged; the trial's figures and weights are lost", path)
            return None
        return _kept(torch.load(io.BytesIO(content), weights_only=True))

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


def _primitives(kept: Kept) -> dict[str, object]:
    evidence = kept.evidence
    return {
        "trial_id": kept.trial_id,
        "run_id": kept.run_id,
        "history": [(point.epoch, dict(point.values), point.examples) for point in kept.history],
        "state_dict": dict(evidence.state_dict),
        "outputs": evidence.outputs,
        "targets": evidence.targets,
        "inputs": evidence.inputs,
    }


def _kept(stored: dict[str, object]) -> Kept:
    history = stored.pop("history")
    trial_id, run_id = str(stored.pop("trial_id")), str(stored.pop("run_id"))
    return Kept(
        trial_id,
        run_id,
        history=tuple(Measured(*point) for point in history),  # type: ignore[attr-defined]
        evidence=Evidence(**stored),  # type: ignore[arg-type]
    )
