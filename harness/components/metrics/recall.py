"""Recall, macro-averaged."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import agreement, measurable

if TYPE_CHECKING:
    from torch import Tensor


def compute(outputs: Tensor, targets: Tensor) -> float:
    if not measurable(outputs):
        return nan
    _, values, _ = agreement(outputs, targets)
    return float(values.mean())


COMPONENTS = (
    Metric(
        name="recall",
        description="of the examples of a class, the part that is given it; mean over classes",
        reference="Sokolova and Lapalme, Information Processing and Management 45 (2009)",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=compute,
    ),
)
