"""Conditions on trials."""

from __future__ import annotations

from typing import Any

import pytest

from harness.experiment.grid import matches
from tests.support import make_trial

TRIAL = make_trial(
    optimizer={"name": "momentum", "momentum": 0.5},
    lr=0.1,
    augment=["flip"],
    grad_clip=None,
    metrics=["accuracy", "f1"],
)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({}, True),
        ({"optimizer": "momentum"}, True),
        ({"optimizer": "sgd"}, False),
        ({"optimizer": ["sgd", "momentum"]}, True),
        ({"optimizer": ["sgd", "adam"]}, False),
        ({"optimizer": {"name": "momentum", "momentum": 0.5}}, True),
        ({"optimizer": {"name": "momentum", "momentum": 0.9}}, False),
        ({"optimizer": {"name": "momentum"}, "lr": 0.1}, True),
        ({"optimizer": "momentum", "lr": 0.2}, False),
        ({"optimizer": {"name": "momentum", "rho": 0.9}}, False),
        ({"optimizer.momentum": 0.5}, True),
        ({"optimizer.momentum": [0.1, 0.5]}, True),
        ({"optimizer.rho": 0.5}, False),
        ({"model.hidden": [16]}, True),
        ({"model.hidden": [[8], [16]]}, True),
        ({"model.hidden": [16, 16]}, False),
        ({"model.hidden": 16}, False),
        ({"lr": [1, 0.1]}, True),
        ({"seed": 0}, True),
        ({"seed": False}, False),
        ({"seed": "0"}, False),
        ({"grad_clip": None}, True),
        ({"augment": "flip"}, True),
        ({"augment": ["flip"]}, True),
        ({"augment": ["none", ["flip"]]}, True),
        ({"augment": "none"}, False),
        ({"augment": [{"name": "flip"}]}, True),
        ({"augment": ["flip", "crop"]}, False),
        ({"metrics": ["accuracy", "f1"]}, True),
        ({"metrics": ["f1"]}, False),
        ({"unheard": 1}, False),
    ],
)
def test_a_condition(condition: dict[str, Any], holds: bool) -> None:
    assert matches(condition, TRIAL) is holds
    assert matches(condition, TRIAL.resolved()) is holds


def test_no_augmentation() -> None:
    assert matches({"augment": "none"}, make_trial())
    assert not matches({"augment": "flip"}, make_trial())
