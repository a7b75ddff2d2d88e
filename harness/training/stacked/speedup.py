"""Whether a stack trains its trials faster than one after another does: measured on their own
steps, whose results are thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path

import torch

from harness.experiment.trial import Trial
from harness.training.device import synchronize
from harness.training.speed import Stepper
from harness.training.stacked.cuda_graph import recorder_for
from harness.training.stacked.stack import Stack
from harness.training.stacked.steps import StepRunner

SECONDS = 0.2
"""Of training in each of the two measurements, at most."""
SHARE = 0.01
"""Of the time that the whole stack will take, at most; where that is less than a step, one step."""
WORTH_SECONDS = 1.0
"""Of a stack's training below which it is not measured: whatever it lost would be less."""
ALONE = 4
"""Trials measured one by one at most, from all over the group, as their optimizers differ."""


def gain(
    trials: Sequence[tuple[str, Trial]], data_root: Path, device: torch.device
) -> float | None:
    """How many times as fast the stack trains as one after another; None where the whole takes too
    little time to be measured. Raises Unstackable, and what building a trial's parts raises.
    """
    stack = Stack(trials, data_root, device)
    with StepRunner(stack, recorder_for(device)) as steps:
        step = _stepper(stack, steps)
        for _ in range(steps.set_up):
            step()
        seconds = _seconds_a_step(step, 0, device)
        whole = seconds * stack.steps_per_epoch * stack.trial.epochs
        if whole < WORTH_SECONDS:
            return None
        budget = min(SECONDS, SHARE * whole)
        if seconds < budget:
            seconds = _seconds_a_step(step, budget, device)
    chosen = trials[:: max(1, len(trials) // ALONE)][:ALONE]
    share = budget / len(chosen)
    # Splits that are at hand: speed does not depend on which examples a seed holds out.
    data = stack.pools.seeds[0]
    each = [Stepper(trial, data_root, device, data).seconds_a_step(share) for _, trial in chosen]
    return len(trials) * sum(each) / len(each) / seconds


def _stepper(stack: Stack, steps: StepRunner) -> Callable[[], None]:
    """One step of the stack at each call."""
    places = stack.pools.train.shuffled(stack.seeds, 1)
    numbers = stack.numbers(1)
    streams = stack.streams(1)
    endless = (scores for _ in repeat(None) for scores in steps.over(places, numbers, streams))

    def step() -> None:
        next(endless)

    return step


def _seconds_a_step(step: Callable[[], None], seconds: float, device: torch.device) -> float:
    synchronize(device)
    steps, start = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    synchronize(device)
    return (time.perf_counter() - start) / steps
