"""The training loop of all trials that choose none: the harness's own training."""

from __future__ import annotations

from typing import Any

from harness.components.base import NONE, TrainingLoop


def _refuse(*_: Any) -> Any:
    raise TypeError("the harness trains the trial itself")


COMPONENTS = (
    TrainingLoop(
        name=NONE,
        description="the harness's own training",
        reference="harness.training.loop",
        run=_refuse,
    ),
)
