"""How much faster a stack trains its trials than one after another, measured on a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from harness.experiment.trial import Trial
from harness.training.data import Splits
from harness.training.device import configure, synchronize
from harness.training.loop import training_step
from harness.training.setup import TrainingSetup
from harness.training.stacked.cuda_graph import recorder_for
from harness.training.stacked.stack import Stack
from harness.training.stacked.steps import StepRunner

MAX_SECONDS = 0.2
"""The longest that each of the two measurements trains."""
MAX_SHARE = 0.01
"""The largest share of the stack's training time that each measurement takes, but one step."""
MIN_STACK_SECONDS = 1.0
"""A stack that trains for less than this is not measured: a wrong choice costs less."""
SINGLE_TRIALS = 4
"""The most trials measured one by one, spread over the stack, as their optimizers differ."""
WARM_UP_STEPS = 3
"""Steps of a single trial before it is measured."""


def measure_speedup(stack: Stack, data_root: Path) -> float | None:
    """Returns how many times as fast the stack trains as its trials one by one.

    None if training takes too little time to be measured. Leaves the stack as it was before.
    Raises what building a trial raises.
    """
    with stack.dry_run(), StepRunner(stack, recorder_for(stack.device)) as runner:
        steps = _stack_steps(stack, runner)
        for _ in range(runner.warm_up_batches):
            next(steps)
        seconds = _seconds_per_step(steps.__next__, 0, stack.device)
        total = seconds * stack.steps_per_epoch * stack.trial.epochs
        if total < MIN_STACK_SECONDS:
            return None
        budget = min(MAX_SECONDS, MAX_SHARE * total)
        if seconds < budget:
            seconds = _seconds_per_step(steps.__next__, budget, stack.device)
    count = len(stack.trials)
    chosen = stack.trials[:: max(1, count // SINGLE_TRIALS)][:SINGLE_TRIALS]
    # The splits of one seed serve all: speed does not depend on which examples are for validation.
    data = stack.data.by_seed[0]
    single = []
    for _, trial in chosen:
        steps = _single_steps(trial, data_root, stack.device, data)
        for _ in range(WARM_UP_STEPS):
            next(steps)
        single.append(_seconds_per_step(steps.__next__, budget / len(chosen), stack.device))
    configure(stack.device)  # The peak memory is that of training.
    return count * sum(single) / len(single) / seconds


def _stack_steps(stack: Stack, runner: StepRunner) -> Iterator[object]:
    """Trains the stack by one batch whenever the next item is requested."""
    examples = stack.data.train.shuffled(stack.seeds, 1)
    coefficients = stack.coefficients(1)
    streams = stack.streams(1)
    while True:
        yield from runner.run(examples, coefficients, streams)


def _single_steps(
    trial: Trial, data_root: Path, device: torch.device, data: Splits
) -> Iterator[None]:
    """Trains a single trial by one batch whenever the next item is requested."""
    setup = TrainingSetup(trial, data_root, device, data)
    augmenting = torch.Generator(device)
    random = None if setup.own_step is None else torch.Generator(device)
    while True:
        order = torch.randperm(len(data.train))
        for inputs, targets in data.train.batches(trial.batch_size, order):
            training_step(setup, 0, setup.augment(inputs, augmenting), targets, random)
            yield


def _seconds_per_step(step: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Returns the mean over the steps taken in at least so many seconds."""
    synchronize(device)
    steps, start = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    synchronize(device)
    return (time.perf_counter() - start) / steps
