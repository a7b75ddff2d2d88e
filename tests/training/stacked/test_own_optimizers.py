"""Optimizers without a stacked rule: each trial of a stack runs its own, on its row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.components.base import Optimizer
from harness.core.records import Ended, Measured, Record
from harness.execution.stacking import plan_stacks
from harness.experiment.trial import Choice, Trial
from harness.training.checkpoint import Checkpoint
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.forward_pass import Unstackable
from harness.training.stacked.stack import Stack
from harness.training.stacked.steps import recording_refusal
from tests.resume_support import assert_same, comparable, planned
from tests.support import make_trial
from tests.training.stacked import test_stack_resume as stacks
from tests.training.stacked.stacked_support import train_items
from tests.training.test_driven_optimizers import LBFGS, Averaged, Odd, chosen

MODEL = {"name": "mlp", "hidden": [16]}


class Reshaping(torch.optim.SGD):
    """Flattens by `view` what it updates, and replaces the parameters' data."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                flat = p.view(-1) - group["lr"] * p.grad.view(-1)
                p.data = flat.view_as(p).clone()


def doubled(params: Any, lr: float) -> torch.optim.Optimizer:
    """torch's own, with another rate than it is given."""
    return torch.optim.SGD(params, lr=2 * lr)


CLASSES = {"averaged": Averaged, "odd": Odd, "reshaping": Reshaping, "doubled": doubled}
CHOICES = [chosen(cls) for cls in CLASSES.values()]


def trials_of(*choices: Choice[Optimizer], **fields: Any) -> list[tuple[str, Trial]]:
    made = [
        replace(
            make_trial(model=MODEL, batch_size=256, epochs=3, lr=lr, seed=seed, **fields),
            optimizer=choice,
        )
        for choice in (*choices, Choice.of("optimizers", {"name": "adam"}))
        for lr, seed in ((0.1, 0), (0.02, 1))
    ]
    return [(str(i), trial) for i, trial in enumerate(made)]


def records_of(items: Any, key: str) -> list[Record]:
    return [item[1] for item in items if not isinstance(item, Checkpoint) and item[0] == key]


@pytest.mark.parametrize("grad_clip", [None, 0.5])
def test_each_equals_its_trial_alone(grad_clip: float | None, data_root: Path) -> None:
    trials = trials_of(*CHOICES, grad_clip=grad_clip)
    items = list(train_items(trials, data_root, test_outputs=True))
    for key, trial in trials:
        alone = list(train(TrainingSetup(trial, data_root), True))
        for mine, expected in zip(records_of(items, key), alone, strict=True):
            if isinstance(expected, Measured):
                assert isinstance(mine, Measured)
                loss = mine.values["val/loss"]
                assert loss == pytest.approx(expected.values["val/loss"], rel=1e-4), key
        assert isinstance(mine, Ended)
        assert isinstance(expected, Ended)
        assert mine.test_outputs is not None
        assert expected.test_outputs is not None
        for name, weights in expected.test_outputs.state_dict.items():
            stacked = mine.test_outputs.state_dict[name]
            torch.testing.assert_close(stacked, weights, rtol=1e-3, atol=1e-4)


def test_resumes_to_the_bit(data_root: Path) -> None:
    trials = trials_of(*CHOICES)
    whole = stacks.by_key(train_items(trials, data_root, test_outputs=True))
    cuts = stacks.states(trials, data_root)
    for place in ((1, 3), (2, 0)):
        stacks.check(trials, data_root, cuts[place], whole)


def test_evaluation_changes_nothing_about_the_training(data_root: Path) -> None:
    def last(every: int) -> list[Any]:
        trials = trials_of(*CHOICES, eval_every=every)
        items = list(train_items(trials, data_root, test_outputs=True))
        return [comparable(records_of(items, key))[-1] for key, _ in trials]

    assert_same(last(1), last(3))


def test_a_step_is_not_recorded_as_a_graph(data_root: Path) -> None:
    stack = Stack(trials_of(*CHOICES), data_root, torch.device("cpu"))
    stack.trial = replace(stack.trial, epochs=100)
    assert recording_refusal(stack) == "an optimizer in it has no rule for a whole stack"


def test_averaged_weights_and_batch_norm_train_one_by_one(data_root: Path) -> None:
    trials = trials_of(chosen(Averaged))
    bn = {"name": "bn_cnn", "first": 2, "second": 2}
    trials = [(key, replace(trial, model=Choice.of("models", bn))) for key, trial in trials]
    with pytest.raises(Unstackable, match="takes its statistics anew, trial by trial"):
        Stack(trials, data_root, torch.device("cpu"))


def test_those_with_a_closure_are_planned_one_by_one() -> None:
    drawing = replace(chosen(nn.Module).component, one_by_one=lambda _: "it draws random numbers")
    choices = [LBFGS, Choice(drawing, drawing.options()), CHOICES[0]]
    plan = plan_stacks([planned(trial) for _, trial in trials_of(*choices)], 8)
    assert [len(stack) for stack in plan.stacks] == [4]
    reasons = [reason for _, reason in plan.singles]
    assert [reason.partition(": ")[2] for reason in reasons] == [
        *["it evaluates the loss several times for each update"] * 2,
        *["it draws random numbers"] * 2,
    ]
