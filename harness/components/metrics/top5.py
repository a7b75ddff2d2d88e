"""Top-5 accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, where_measurable

if TYPE_CHECKING:
    from torch import Tensor

K = 5


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of equal logits the first ranks higher, as for accuracy."""
    import torch

    wanted = targets.unsqueeze(2)
    own = outputs.gather(2, wanted)
    before = torch.arange(outputs.shape[2], device=outputs.device) < wanted
    rank = ((outputs > own) | ((outputs == own) & before)).sum(2)
    return where_measurable((rank < K).sum(1).double() / targets.shape[1], outputs)


COMPONENTS = (
    Metric(
        name="top5",
        description="part of the examples whose class is among the five likeliest",
        reference="Russakovsky et al., IJCV 115 (2015)",
        tasks=frozenset({Task.MULTICLASS}),
        direction="max",
        unit="fraction",
        compute=of_one(stacked),
        stacked=stacked,
        min_classes=K + 1,
    ),
)
