"""How much faster trials train as a stack: measured on this machine, and stored in a file."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.execution.devices import available_cores
from harness.execution.executors.base import TrainingTask

if TYPE_CHECKING:
    import torch

    from harness.training.stacked.stack import Stack

_FIELD: Final = "gain"
"""The name of the speedup in the file."""


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast a task's trials train as a stack.

    factor: None if they take too little time to be measured. description: for people.
    """

    factor: float | None
    description: str

    @property
    def is_worthwhile(self) -> bool:
        """Whether the trials should train as a stack."""
        return self.factor is None or self.factor > 1


def stored_speedup(task: TrainingTask, file: Path, device: torch.device) -> Speedup | None:
    """Returns the speed-up that this machine measured earlier; None if it measured none."""
    factor = _load(file).get(_key(task, device), {}).get(_FIELD)
    return None if factor is None else _describe(task, factor, "measured before")


def measured_speedup(task: TrainingTask, file: Path, stack: Stack) -> Speedup:
    """Measures the speedup, beside whatever else trains now, and stores it in the file.

    Leaves the stack as it was before. Raises what building a trial raises.
    """
    from harness.training.stacked import speedup

    factor = speedup.measure_speedup(stack, task.data_root)
    if factor is not None:
        _store(file, _key(task, stack.device), factor)
    return _describe(task, factor, "measured now")


def _describe(task: TrainingTask, factor: float | None, how: str) -> Speedup:
    what = f"{task.trial.model.name} on {task.trial.dataset.name}"
    size = f"a stack of {len(task.trials)}"
    if factor is None:
        return Speedup(None, f"{what}: {size}, which takes too little time to be measured first")
    if factor > 1:
        return Speedup(factor, f"{what}: {size} trains {factor:.3g} times as fast ({how})")
    return Speedup(
        factor, f"{what}: one by one, as {size} would train {factor:.2g} times as fast ({how})"
    )


def _key(task: TrainingTask, device: torch.device) -> str:
    """Returns all that the speedup depends on; sizes of stacks are rounded to powers of two."""
    import torch

    trial = task.trial
    machine = (
        f"{platform.node()} {platform.machine()} {available_cores()} cores torch {version('torch')}"
    )
    parts = [
        machine,
        trial.model.resolved(),
        trial.dataset.identity(),
        trial.batch_size,
        trial.precision,
        [choice.resolved() for choice in trial.augment],
        len(task.trials).bit_length(),
        str(device),
        torch.get_num_threads(),
        torch.__version__,
    ]
    return json.dumps(parts, sort_keys=True)


def _load(file: Path) -> dict[str, dict[str, float]]:
    """Returns all stored speedups; empty if the file is missing or damaged, as measuring again
    takes only seconds."""
    with suppress(OSError, ValueError):
        stored: Any = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(stored, dict) and all(isinstance(v, dict) for v in stored.values()):
            return stored
    return {}


def _store(file: Path, key: str, factor: float) -> None:
    """Adds a speedup to the file. If several processes do so at once, one may be lost."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(_load(file) | {key: {_FIELD: factor}}, indent=1)
    partial.write_text(content, encoding="utf-8")
    partial.replace(file)
