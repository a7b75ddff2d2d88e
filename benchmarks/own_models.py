"""Which models of users' own shapes stack, why others do not, and how fast a stack of 8 is.

Prints the table of docs/own-models.md; `python -m benchmarks own_models`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from harness.components.registry import activate
from harness.core.paths import data_root
from harness.experiment.trial import Trial
from harness.training.loop import training_step
from harness.training.own_step import step_generator
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.forward_pass import Unstackable
from harness.training.stacked.stack import Stack
from tests.own_models import MODELS, own_trial

TRIALS, STEPS, TIMES = 8, 4, 2
DOCUMENT = Path(__file__).parents[1] / "docs" / "own-models.md"


def rows() -> list[tuple[str, str, str]]:
    """Returns for each model how much faster a stack is, or why there is none."""
    torch.set_num_threads(1)
    found = []
    for name, fields in MODELS.items():
        trials = [(str(seed), own_trial(name, seed)) for seed in range(TRIALS)]
        try:
            stack = Stack(trials, data_root(), torch.device("cpu"))
            result = "yes", f"{_ratio(stack, [trial for _, trial in trials]):.1f}"
        except Unstackable as reason:
            result = f"no: {reason}", ""
        found.append((f"{name} (`{fields['model']['name']}`)", *result))
        print(" | ".join(found[-1]), flush=True)
    activate(None)
    return found


def _ratio(stack: Stack, trials: list[Trial]) -> float:
    """Returns the time of steps one by one, divided by the stack's; the best of some runs each."""
    singles = [TrainingSetup(trial, data_root()) for trial in trials]
    together, alone = [], []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        _train_stack(stack)
        together.append(time.perf_counter() - start)
        start = time.perf_counter()
        for setup in singles:
            _train_single(setup)
        alone.append(time.perf_counter() - start)
    return min(alone[1:]) / min(together[1:])


def _train_stack(stack: Stack) -> None:
    examples = stack.data.train.shuffled(stack.seeds, 1)
    coefficients, streams = stack.coefficients(1), stack.streams(1)
    size = stack.trial.batch_size
    chosen = examples.split(size, dim=1)[:STEPS]
    by_batch = zip(*(table.unbind() for table in coefficients), strict=True)
    for batch, of_batch in zip(chosen, by_batch, strict=False):
        if batch.shape[1] == size:
            stack.step(batch, of_batch, streams.masks, streams)


def _train_single(setup: TrainingSetup) -> None:
    size, step = setup.trial.batch_size, 0
    random = None if setup.own_step is None else step_generator(0, 1, "cpu")
    order = torch.randperm(len(setup.data.train))
    for step, (inputs, targets) in enumerate(setup.data.train.batches(size, order)):
        if step == STEPS or len(inputs) < size:
            return
        training_step(setup, step, inputs, targets, random)


def main() -> None:
    head = ["| model | stacks | times as fast |", "|---|---|---|"]
    table = head + [f"| {' | '.join(row)} |" for row in rows()]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition("<!-- table -->\n")
    after = rest.partition("<!-- end -->\n")[2]
    text = f"{before}<!-- table -->\n" + "\n".join(table) + f"\n<!-- end -->\n{after}"
    DOCUMENT.write_text(text, encoding="utf-8")
