"""How much faster a task's trials train as a stack: measured where they will, and remembered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.execution.devices import available_cores
from harness.execution.executors.base import Task
from harness.execution.measurements import load_measurements, machine_key, save_measurements

if TYPE_CHECKING:
    import torch

NAME = "gain"


@dataclass(frozen=True, slots=True)
class Gain:
    """factor: how many times as fast as one by one; None where the trials take too little time to
    be measured. told: what was found, for people."""

    factor: float | None
    told: str

    @property
    def stacks(self) -> bool:
        """Whether the stack is the better way, as far as is known."""
        return self.factor is None or self.factor > 1


def gain_of(task: Task, memory: Path, device: torch.device) -> Gain:
    """What was measured before on this machine, or is measured now: beside whatever else trains.

    memory: a file of what was measured. Raises Unstackable, and what building a trial raises.
    """
    from harness.training import device as devices
    from harness.training.stacked.speedup import gain

    key = _key(task, device)
    before = load_measurements(memory).get(key, {}).get(NAME)
    if before is not None:
        return _told(task, before, "measured before")
    devices.configure(device)
    now = gain(task.trials, task.data_root, device)
    if now is not None:
        save_measurements(memory, {key: {NAME: now}})
    return _told(task, now, "measured now")


def _told(task: Task, factor: float | None, how: str) -> Gain:
    what = f"{task.trial.model.name} on {task.trial.dataset.name}"
    size = f"a stack of {len(task.trials)}"
    if factor is None:
        return Gain(None, f"{what}: {size}, which takes too little time to be measured first")
    if factor > 1:
        return Gain(factor, f"{what}: {size} trains {factor:.3g} times as fast ({how})")
    return Gain(
        factor, f"{what}: one by one, as {size} would train {factor:.2g} times as fast ({how})"
    )


def _key(task: Task, device: torch.device) -> str:
    """What the speed depends on; sizes of stacks by powers of two."""
    import torch

    trial = task.trial
    parts = [
        machine_key(available_cores()),
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
