"""A stack computes what torch.optim computes for each of its trials alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.stacked import stacked_support as support

SCHEDULERS = support.options_of("schedulers")
MODELS = support.model_options()
KINDS = support.one_of_each(MODELS, 0)
TOLERANCE = 1e-9
SMALL = {"name": "mlp", "hidden": [4]}


@pytest.mark.parametrize("model", MODELS, ids=support.named(MODELS))
def test_every_model_equals_itself_alone(model: dict[str, Any]) -> None:
    """Every second optimizer, each with a scheduler of its own; the slow test takes them all."""
    optimizers, schedulers = support.every_optimizer()[::2], SCHEDULERS[::2]
    _compare(support.mixed_trials(model, optimizers, schedulers, whole_product=False))


@pytest.mark.slow
def test_every_optimizer_with_every_scheduler_equals_torch() -> None:
    trials = support.mixed_trials(SMALL, support.every_optimizer(), SCHEDULERS[::5], True)
    _compare(trials)


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(len(KINDS)), ids=[model["name"] for model in KINDS])
def test_every_model_optimizer_and_scheduler(turn: int) -> None:
    """Each model with other options of them; the next test takes every option."""
    model = KINDS[turn]
    optimizers = support.one_of_each(support.every_optimizer(), turn)
    schedulers = support.one_of_each(SCHEDULERS, turn)
    _compare(support.mixed_trials(model, optimizers, schedulers, whole_product=True))


@pytest.mark.slow
def test_every_option_of_every_optimizer_and_scheduler() -> None:
    _compare(support.mixed_trials(SMALL, support.every_optimizer(), SCHEDULERS, whole_product=True))


@pytest.mark.parametrize("optimizer", support.every_optimizer(), ids=str)
def test_a_stack_of_one_rule_equals_torch(optimizer: dict[str, Any]) -> None:
    """Coefficients that all trials share are computed differently from those that differ."""
    trials = [
        support.trial_of(optimizer, model=SMALL, lr=lr, epochs=support.EPOCHS)
        for lr in (0.001, 0.01)
    ]
    _compare(trials)


def test_differing_coefficients_in_one_rule() -> None:
    options: list[dict[str, Any]] = [
        {"name": name, **given}
        for name in ("adam", "adamw")
        for given in (
            {"betas": [0.5, 0.9]},
            {"betas": [0.9, 0.99], "eps": 1e-3},
            {"weight_decay": 0.3},
            {"amsgrad": True},
            {"amsgrad": True, "betas": [0.7, 0.8]},
        )
    ]
    options += [
        {"name": "momentum", "momentum": m, "dampening": d, "weight_decay": m / 9}
        for m, d in ((0.0, 0.5), (0.3, 0.2), (0.9, 1.0))
    ]
    options += [{"name": "nesterov", "momentum": m} for m in (0.3, 0.9)]
    _compare(
        [
            support.trial_of(one, model=SMALL, lr=0.01, seed=i, epochs=support.EPOCHS)
            for i, one in enumerate(options)
        ]
    )


@pytest.mark.parametrize(
    "model", [SMALL, {"name": "dropout_cnn", "first": 2, "second": 2}], ids=["mlp", "dropout_cnn"]
)
def test_neither_the_position_nor_the_number_of_trials_matters(model: dict[str, Any]) -> None:
    trials = support.mixed_trials(model, support.every_optimizer()[:12], SCHEDULERS[:3], False)
    whole = support.stacked(trials, torch.float64)
    backwards = support.stacked(trials[::-1], torch.float64)[::-1]
    few = support.stacked(trials[:3], torch.float64)
    for one, other in [*zip(whole, backwards, strict=True), *zip(whole, few, strict=False)]:
        assert support.distance(one, other) < TOLERANCE


def test_single_precision_errors_are_those_of_another_order_of_sums() -> None:
    """Against double precision, a stack's error is a small multiple of torch's own."""
    trials = support.mixed_trials(SMALL, support.every_optimizer(), SCHEDULERS[:4], False)
    stack = support.stacked(trials, torch.float32)
    for trial, mine in zip(trials, stack, strict=True):
        exact = support.alone(trial, torch.float64)
        torchs = support.distance(support.alone(trial, torch.float32), exact)
        assert support.distance(mine, exact) < 5 * torchs + 1e-6, trial.optimizer.label


def _compare(trials: list[Any]) -> None:
    for trial, mine in zip(trials, support.stacked(trials, torch.float64), strict=True):
        error = support.distance(mine, support.alone(trial, torch.float64))
        assert error < TOLERANCE, f"{trial.optimizer.label} {trial.scheduler.label}: {error}"
