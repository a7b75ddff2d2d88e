"""Which trials are stacked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.execution.stacking import plan_stacks
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import STACKABLE_FIELDS, TRIAL_FIELDS, Choice, Fingerprint, Trial
from tests.support import make_trial


def planned(*trials: Trial, fingerprint: str = "f") -> list[PlannedTrial]:
    return [
        PlannedTrial(trial, f"{fingerprint}{i}", "c", f"trial {i}", {}, Fingerprint(fingerprint))
        for i, trial in enumerate(trials)
    ]


def test_trials_that_differ_in_stackable_fields_are_stacked() -> None:
    trials = planned(
        make_trial(),
        make_trial(optimizer={"name": "adam", "eps": 1e-3}, lr=0.5),
        make_trial(scheduler="cosine", seed=7, grad_clip=1.0),
    )
    found = plan_stacks(trials, fuse=64)
    assert found.stacks == (tuple(trials),)
    assert not found.singles


DIFFERENT: dict[str, Any] = {
    "dataset": "breast_cancer",
    "model": {"name": "mlp", "hidden": [17]},
    "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
    "device": "auto",
    "epochs": 3,
    "batch_size": 32,
    "eval_batch_size": 100,
    "val_fraction": 0.2,
    "eval_every": 2,
    "log_every": 5,
    "metrics": ["f1"],
    "precision": "bf16",
    "augment": ["noise", {"name": "torchvision", "options": {"p": 0.3}}],
}


def test_every_field_is_tested() -> None:
    alone = {"training_loop"}  # A trial with one is never stacked: see test_own_loop.
    assert set(DIFFERENT) | STACKABLE_FIELDS | alone == set(TRIAL_FIELDS) - {"training_step"}


@pytest.mark.parametrize("field", DIFFERENT)
def test_trials_that_differ_in_it_are_not_stacked(field: str) -> None:
    trials = planned(make_trial(), make_trial(seed=1), make_trial(**{field: DIFFERENT[field]}))
    found = plan_stacks(trials, fuse=64)
    assert found.stacks == (tuple(trials[:2]),)
    assert [one for one, _ in found.singles] == [trials[2]]
    assert "no other trial" in found.singles[0][1]


def test_trials_on_different_data_are_not_stacked() -> None:
    trials = planned(make_trial()) + planned(make_trial(seed=1), fingerprint="g")
    assert not plan_stacks(trials, fuse=64).stacks


def test_equal_choices_in_different_objects_are_stacked() -> None:
    one = make_trial()
    other = replace(one, seed=1, model=Choice.of("models", one.model.resolved()))
    assert len(plan_stacks(planned(one, other), fuse=64).stacks) == 1


@given(count=st.integers(1, 200), most=st.integers(1, 70))
def test_stacks_have_almost_equal_sizes_and_lose_no_trial(count: int, most: int) -> None:
    base = make_trial()
    trials = planned(*(replace(base, seed=seed) for seed in range(count)))
    found = plan_stacks(trials, most)
    kept = [one for stack in found.stacks for one in stack]
    assert [*kept, *(one for one, _ in found.singles)] == trials
    sizes = [len(stack) for stack in found.stacks] + [1] * len(found.singles)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-count // most)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4))
def test_stacks_keep_every_slot_busy(trials: int, most: int, slots: int) -> None:
    found = plan_stacks(planned(*(make_trial(seed=i) for i in range(trials))), most, slots)
    sizes = [len(stack) for stack in found.stacks] + [1] * len(found.singles)
    assert sum(sizes) == trials
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) % slots == 0 or len(sizes) == trials


OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")


def test_trials_of_one_seed_share_their_batches_in_one_stack() -> None:
    trials = planned(
        *(make_trial(optimizer=name, seed=seed) for name in OPTIMIZERS for seed in (3, 1, 2, 0))
    )
    found = plan_stacks(trials, fuse=64, slots=2)
    seeds = [{one.trial.seed for one in stack} for stack in found.stacks]
    assert seeds == [{0, 1}, {2, 3}]
    assert all(list(stack) == [t for t in trials if t in stack] for stack in found.stacks)


@pytest.mark.parametrize("by_optimizer", [False, True])
def test_of_one_seed_each_stack_has_some_of_every_optimizer(by_optimizer: bool) -> None:
    pairs = [(name, lr) for lr in (0.1, 0.2, 0.3, 0.4) for name in OPTIMIZERS]
    if by_optimizer:
        pairs.sort(key=lambda pair: OPTIMIZERS.index(pair[0]))
    found = plan_stacks(
        planned(*(make_trial(optimizer=name, lr=lr) for name, lr in pairs)), 64, slots=4
    )
    for stack in found.stacks:
        assert sorted(one.trial.optimizer.name for one in stack) == sorted(OPTIMIZERS)
