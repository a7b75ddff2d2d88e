"""A stack computes what torch.optim computes for each of its trials alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.stacked import stacked_support as fused

SCHEDULERS = fused.options_of("schedulers")
MODELS = fused.model_options()
KINDS = fused.one_of_each(MODELS, 0)
TOLERANCE = 1e-9
SMALL = {"name": "mlp", "hidden": [4]}


@pytest.mark.parametrize("model", MODELS, ids=fused.named(MODELS))
def test_every_model_equals_itself_alone(model: dict[str, Any]) -> None:
    """Every second optimizer, each with a scheduler of its own; the slow test takes them all."""
    optimizers, schedulers = fused.every_optimizer()[::2], SCHEDULERS[::2]
    _compare(fused.mixed_trials(model, optimizers, schedulers, whole_product=False))


def test_every_optimizer_with_every_scheduler_equals_torch() -> None:
    trials = fused.mixed_trials(SMALL, fused.every_optimizer(), SCHEDULERS[::5], True)
    _compare(trials)


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(len(KINDS)), ids=[model["name"] for model in KINDS])
def test_every_model_optimizer_and_scheduler(turn: int) -> None:
    """Each model with other options of them; the next test takes every option."""
    model = KINDS[turn]
    optimizers = fused.one_of_each(fused.every_optimizer(), turn)
    schedulers = fused.one_of_each(SCHEDULERS, turn)
    _compare(fused.mixed_trials(model, optimizers, schedulers, whole_product=True))


@pytest.mark.slow
def test_every_option_of_every_optimizer_and_scheduler() -> None:
    _compare(fused.mixed_trials(SMALL, fused.every_optimizer(), SCHEDULERS, whole_product=True))


@pytest.mark.parametrize("optimizer", fused.every_optimizer(), ids=str)
def test_a_stack_of_one_rule_equals_torch(optimizer: dict[str, Any]) -> None:
    """Coefficients that all rows share take another way than those that differ."""
    trials = [
        fused.trial_of(optimizer, model=SMALL, lr=lr, epochs=fused.EPOCHS) for lr in (0.001, 0.01)
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
            fused.trial_of(one, model=SMALL, lr=0.01, seed=i, epochs=fused.EPOCHS)
            for i, one in enumerate(options)
        ]
    )


@pytest.mark.parametrize(
    "model", [SMALL, {"name": "dropout_cnn", "first": 2, "second": 2}], ids=["mlp", "dropout_cnn"]
)
def test_neither_the_slot_nor_the_number_of_trials_matters(model: dict[str, Any]) -> None:
    trials = fused.mixed_trials(model, fused.every_optimizer()[:12], SCHEDULERS[:3], False)
    whole = fused.stacked(trials, torch.float64)
    backwards = fused.stacked(trials[::-1], torch.float64)[::-1]
    few = fused.stacked(trials[:3], torch.float64)
    for one, other in [*zip(whole, backwards, strict=True), *zip(whole, few, strict=False)]:
        assert fused.distance(one, other) < TOLERANCE


def test_single_precision_strays_no_further_than_another_order_of_sums() -> None:
    """Against double precision, a stack's error is a small multiple of torch's own."""
    trials = fused.mixed_trials(SMALL, fused.every_optimizer(), SCHEDULERS[:4], False)
    stack = fused.stacked(trials, torch.float32)
    for trial, mine in zip(trials, stack, strict=True):
        exact = fused.alone(trial, torch.float64)
        torchs = fused.distance(fused.alone(trial, torch.float32), exact)
        assert fused.distance(mine, exact) < 5 * torchs + 1e-6, trial.optimizer.label


def _compare(trials: list[Any]) -> None:
    for trial, mine in zip(trials, fused.stacked(trials, torch.float64), strict=True):
        error = fused.distance(mine, fused.alone(trial, torch.float64))
        assert error < TOLERANCE, f"{trial.optimizer.label} {trial.scheduler.label}: {error}"
