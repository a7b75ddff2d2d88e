"""Schedules made of a user's functions and of torch's classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from harness.components.base import Horizon, Scheduler
from harness.components.code.adapters import make_component
from harness.core.errors import InputError
from harness.experiment.trial import Choice
from harness.training.learning_rate import LearningRate

HORIZON = Horizon(epochs=6, steps_per_epoch=5)


def made(target: Any, **details: Any) -> Scheduler:
    component = make_component("schedulers", "own", target, "c0de", details)
    assert isinstance(component, Scheduler)
    return component


def rates(target: Any, n: int, lr: float = 0.1, **options: Any) -> list[float]:
    component = made(target)
    schedule: Any = component.build(component.options.model_validate(options), HORIZON)
    return [schedule(lr, t) for t in range(n)]


def halving(lr: float, t: int, factor: float = 0.5) -> float:
    return lr * factor**t


def triangle(rate: float, step: int, total: int) -> Any:
    return torch.tensor(rate * step / total)


def test_a_function_of_the_rate_and_the_time() -> None:
    assert rates(halving, 3) == [0.1, 0.05, 0.025]
    assert rates(halving, 3, factor=0.1) == pytest.approx([0.1, 0.01, 0.001])
    component = made(halving)
    assert not component.needs_length(component.options())
    assert set(component.options.model_fields) == {"by", "warmup_epochs", "warmup_start", "factor"}


@pytest.mark.parametrize(("by", "total"), [("epoch", 6), ("batch", 30)])
def test_total_is_the_length_of_the_run(by: str, total: int) -> None:
    assert rates(triangle, 2, by=by) == pytest.approx([0, 0.1 / total])
    component = made(triangle)
    assert component.needs_length(component.options())
    assert "total" not in component.options.model_fields


def of_torch(cls: Any, n: int, lr: float, **given: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = cls(optimizer, **given)
    found = []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


CLASSES: list[tuple[Any, dict[str, Any]]] = [
    (lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.3}),
    (lr_scheduler.MultiStepLR, {"milestones": [1, 4]}),
    (lr_scheduler.CosineAnnealingLR, {"T_max": "$total"}),
    (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 2, "T_mult": 2}),
    (lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    (lr_scheduler.LinearLR, {}),
    (lr_scheduler.PolynomialLR, {"total_iters": 6, "power": 2.0}),
    (
        lr_scheduler.OneCycleLR,
        {"max_lr": 0.3, "total_steps": "$total", "cycle_momentum": False},
    ),
    (
        lr_scheduler.CyclicLR,
        {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 2, "cycle_momentum": False},
    ),
]


@pytest.mark.parametrize(
    ("cls", "given"), CLASSES, ids=lambda value: getattr(value, "__name__", "")
)
def test_torchs_schedulers_give_their_own_rates(cls: Any, given: dict[str, Any]) -> None:
    plain = {name: 6 if value == "$total" else value for name, value in given.items()}
    for lr in (0.1, 0.02):
        assert rates(cls, 6, lr, **given) == pytest.approx(of_torch(cls, 6, lr, **plain))
    component = made(cls)
    needs = component.needs_length(component.options.model_validate(given))
    assert needs == ("$total" in given.values())


def test_the_rates_of_a_run_do_not_depend_on_the_order_of_questions() -> None:
    """So that a trial that resumes has the rates of one that was not interrupted."""
    component = made(lr_scheduler.ExponentialLR)
    choice = Choice(component, component.options.model_validate({"gamma": 0.5}))
    first, second = (LearningRate(choice, 0.1, HORIZON) for _ in range(2))
    forward = [first.at(batch) for batch in range(30)]
    assert [second.at(batch) for batch in reversed(range(30))] == forward[::-1]
    assert forward[0] == 0.1
    assert forward[29] == pytest.approx(0.1 * 0.5**5)


class Own(lr_scheduler.LRScheduler):
    def get_lr(self) -> list[Any]:
        return [base / (1 + self.last_epoch) for base in self.base_lrs]


def test_a_subclass_of_torchs_works_as_it_is() -> None:
    assert rates(Own, 3) == pytest.approx([0.1, 0.05, 0.1 / 3])


class Plain:
    pass


def raising(lr: float, t: int) -> float:
    rates: dict[int, float] = {}
    return rates[t]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (lambda lr, t: None, {}, "own: its rate at t = 0 is None, and not a number"),
    (lambda lr, t: math.nan, {}, "its rate at t = 0 is nan"),
    (lambda lr, t: -lr, {}, "its rate at t = 0 is -0.1: a rate is finite, and at least 0"),
    (raising, {}, r"test_own_schedulers.py:\d+: scheduler own: KeyError: 0"),
    (lambda lr: lr, {}, "own must take the learning rate and t, and takes 1"),
    (lambda lr, t, by: lr, {}, "has an option 'by': give the parameter another name"),
    (Plain, {}, "own is a class, and none of torch.optim.lr_scheduler.LRScheduler"),
    (lr_scheduler.ReduceLROnPlateau, {}, "(?s)own follows a metric.*`plateau`"),
    (lr_scheduler.OneCycleLR, {"max_lr": 0.1}, r"(?s)ValueError: You must define either.*\$total"),
    (
        lr_scheduler.OneCycleLR,
        {"max_lr": 0.1, "total_steps": 9},
        "(?s)it changes the momentum too.*cycle_momentum: false",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), WRONG)
def test_what_does_not_fit_is_told(target: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rates(target, 1, **options)


def test_an_end_that_comes_too_early_is_told() -> None:
    given = {"max_lr": 0.1, "total_steps": 3, "cycle_momentum": False}
    with pytest.raises(InputError, match=r"(?s)Tried to step 4 times.*\$total stands for"):
        rates(lr_scheduler.OneCycleLR, 5, **given)


def test_unknown_details_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"(?s)scheduler own says 'direction', which is unknown.*a name alone"
    ):
        made(halving, direction="max")
