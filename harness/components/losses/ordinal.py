"""Losses of ordered classes: the model returns one logit for each border between two classes.

Both make class probabilities of the logits, so that metrics need not know which loss was used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-30
"""The least probability whose logarithm is taken."""


def borders(info: DataInfo) -> int:
    return info.classes - 1


def build_corn(options: Options) -> LossFunction:
    import torch
    from torch.nn import functional

    def corn(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes − 1]; k is that of "above class k, if not below it". targets: [B]
        int64. Returns [B], the negative log-likelihood."""
        border = torch.arange(logits.shape[1], device=logits.device)
        above = (targets.unsqueeze(1) > border).to(logits.dtype)
        asked = targets.unsqueeze(1) >= border
        each = functional.binary_cross_entropy_with_logits(logits, above, reduction="none")
        # What is not asked has no gradient; NaN stays NaN.
        return torch.where(asked | logits.isnan(), each, torch.zeros_like(each)).sum(dim=1)

    return corn


def predict_corn(logits: Tensor) -> Tensor:
    """Returns the logarithms of the class probabilities, […, classes], of logits […, borders]."""
    import torch
    from torch.nn import functional

    reached = functional.logsigmoid(logits).cumsum(-1)
    reached = torch.cat([torch.zeros_like(logits[..., :1]), reached], dim=-1)
    not_passed = functional.logsigmoid(-logits)
    return reached + torch.cat([not_passed, torch.zeros_like(logits[..., :1])], dim=-1)


def build_coral(options: Options) -> LossFunction:
    import torch
    from torch.nn import functional

    def coral(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes − 1]; k is that of "above class k". targets: [B] int64. Returns
        [B]."""
        border = torch.arange(logits.shape[1], device=logits.device)
        above = (targets.unsqueeze(1) > border).to(logits.dtype)
        each = functional.binary_cross_entropy_with_logits(logits, above, reduction="none")
        return each.sum(dim=1)

    return coral


def predict_coral(logits: Tensor) -> Tensor:
    """Returns the logarithms of the class probabilities, […, classes], of logits […, borders].

    Logits that do not fall from border to border are sorted, as probabilities of classes could be
    negative otherwise. As many of them stay above 0.
    """
    import torch

    above = logits.sort(dim=-1, descending=True).values.sigmoid()
    one, zero = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
    probabilities = torch.cat([one, above], dim=-1) - torch.cat([above, zero], dim=-1)
    return probabilities.clamp_min(SMALLEST).log()


COMPONENTS = (
    Loss(
        name="corn",
        description="ordered classes: is it above class k, if it is not below? The likelihood of "
        "the continuation ratios",
        reference="Shi, Cao and Raschka, Pattern Analysis and Applications 26 (2023)",
        tasks=frozenset({Task.ORDINAL}),
        default_for=frozenset({Task.ORDINAL}),
        outputs=borders,
        build=build_corn,
        predict=predict_corn,
    ),
    Loss(
        name="coral",
        description="ordered classes: is it above class k? The sum of a binary cross-entropy for "
        "each k",
        reference="Niu et al., CVPR 2016; Cao, Mirjalili and Raschka, Pattern Recognition Letters "
        "140 (2020)",
        tasks=frozenset({Task.ORDINAL}),
        outputs=borders,
        build=build_coral,
        predict=predict_coral,
    ),
)
