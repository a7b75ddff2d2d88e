"""The training step of all trials that choose none: the harness's own."""

from __future__ import annotations

from typing import Any

from harness.components.base import NONE, TrainingStep


def _refuse(*_: Any) -> Any:
    raise TypeError("the harness computes the losses itself")


COMPONENTS = (
    TrainingStep(
        name=NONE,
        description="the trial's loss of what the model returns for the inputs",
        reference="harness.training.step",
        run=_refuse,
    ),
)
