"""Whether a stack trains its trials faster than one after another does: measured on their own
steps, whose results are thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from harness.training.device import synchronize
from harness.training.fused.dropout import EpochMasks
from harness.training.fused.stack import Stack
from harness.training.pace import Stepper
from harness.trial import Trial

SECONDS = 0.2
"""Of training in each measurement."""
ALONE = 4
"""Trials measured one by one at most, from all over the group, as their optimizers differ."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """gain: how many times as fast the stack trains; faster: whether it is worth it."""

    gain: float

    @property
    def faster(self) -> bool:
        return self.gain > 1


def compare(trials: Sequence[tuple[str, Trial]], data_root: Path, device: torch.device) -> Verdict:
    """Measure both ways. Raises Unstackable, and what building a trial's parts raises."""
    stack = len(trials) * _stack_pace(Stack(trials, data_root, device))
    chosen = trials[:: max(1, len(trials) // ALONE)][:ALONE]
    share = SECONDS / len(chosen)
    seconds = [1 / Stepper(trial, data_root, device).pace(share) for _, trial in chosen]
    return Verdict(stack * sum(seconds) / len(seconds))


def _stack_pace(stack: Stack) -> float:
    """Epochs a second of the stack."""
    places = stack.pools.train.shuffled(stack.seeds, 1).split(stack.trial.batch_size, dim=1)
    masks = EpochMasks(stack.seeds, stack.owner, 1, stack.network.values.dtype)
    endless = cycle(list(zip(places, stack.rates.of_epoch(1), strict=True)))

    def step() -> tuple[Tensor, Tensor, Tensor]:
        chosen, lr = next(endless)
        return stack.step(chosen, lr, masks)

    for _ in range(2):
        step()
    synchronize(stack.device)
    steps, start = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - start < SECONDS:
        step()
        steps += 1
    synchronize(stack.device)
    return steps / stack.steps_per_epoch / (time.perf_counter() - start)
