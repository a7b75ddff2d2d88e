"""Top-5 accuracy."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import measurable

if TYPE_CHECKING:
    from torch import Tensor

K = 5


def compute(outputs: Tensor, targets: Tensor) -> float:
    """Of equal logits the first ranks higher, as for accuracy."""
    import torch

    if not measurable(outputs):
        return nan
    own = outputs.gather(1, targets[:, None])
    before = torch.arange(outputs.shape[1], device=outputs.device) < targets[:, None]
    rank = ((outputs > own) | ((outputs == own) & before)).sum(1)
    return int((rank < K).sum()) / len(targets)


COMPONENTS = (
    Metric(
        name="top5",
        description="part of the examples whose class is among the five likeliest",
        reference="Russakovsky et al., IJCV 115 (2015)",
        tasks=frozenset({Task.MULTICLASS}),
        direction="max",
        unit="fraction",
        compute=compute,
        min_classes=K + 1,
    ),
)
