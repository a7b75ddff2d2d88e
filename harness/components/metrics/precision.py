"""Precision, macro-averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import agreement, of_one, where_measurable

if TYPE_CHECKING:
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    return where_measurable(agreement(outputs, targets)[0], outputs)


COMPONENTS = (
    Metric(
        name="precision",
        description="of the examples given a class, the part that has it; mean over classes",
        reference="Sokolova and Lapalme, Information Processing and Management 45 (2009)",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
