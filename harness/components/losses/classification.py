"""Losses of a classification: cross-entropies, also of labels, and Rosenblatt's perceptron
criterion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import Field

from harness.components.base import Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor

CLASSIFICATION: Final = frozenset({Task.MULTICLASS, Task.BINARY})
LIKELIHOOD: Final = CLASSIFICATION | {Task.ORDINAL}
FEW_CLASSES, MANY_EXAMPLES = 16, 512
"""With fewer classes than this, and at least as many examples, torch's softmax takes a quarter of
the time on a CPU if examples are contiguous in memory: few classes fill no vector register."""


class CrossEntropyOptions(Options):
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each target that is spread evenly over all classes"
    )


def build_cross_entropy(options: CrossEntropyOptions) -> LossFunction:
    from torch.nn import functional

    unreduced = partial(
        functional.cross_entropy, reduction="none", label_smoothing=options.label_smoothing
    )

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B]."""
        on_cpu = logits.device.type == "cpu"
        if on_cpu and logits.shape[1] < FEW_CLASSES and len(logits) >= MANY_EXAMPLES:
            return unreduced(logits.t().unsqueeze(0), targets.unsqueeze(0))[0]
        return unreduced(logits, targets)

    return cross_entropy


def build_nll(options: Options) -> LossFunction:
    from torch.nn import functional

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B]."""
        return functional.nll_loss(functional.log_softmax(logits, dim=1), targets, reduction="none")

    return nll


def build_softmax_twice(options: Options) -> LossFunction:
    from torch.nn import functional

    def softmax_twice(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B].

        It is never below log(1 + (classes − 1)/e), however confident and correct the model is. Its
        gradient vanishes where the model is confident and wrong.
        """
        return functional.cross_entropy(logits.softmax(dim=1), targets, reduction="none")

    return softmax_twice


def build_bce(options: Options) -> LossFunction:
    from torch.nn import functional

    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, 1], the logit of class 1, or [B, labels]. targets: [B] int64, or [B, labels]
        float32. Returns [B]."""
        if targets.ndim == 2:
            each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            return each.mean(dim=1)
        logit = logits.squeeze(1)
        return functional.binary_cross_entropy_with_logits(
            logit, targets.to(logit.dtype), reduction="none"
        )

    return bce


def build_perceptron(options: Options) -> LossFunction:
    import torch
    from torch.nn import functional

    def perceptron(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes], or [B, 1] for two classes. targets: [B] int64. Returns [B]."""
        if logits.shape[1] == 1:
            is_class = targets.unsqueeze(1)
        else:
            is_class = functional.one_hot(targets, logits.shape[1])
        margin = (2 * is_class - 1).to(logits.dtype) * logits
        # The perceptron updates at a margin of exactly 0, where zero weights start. relu has no
        # gradient there. NaN stays NaN.
        return torch.where(margin > 0, torch.zeros_like(margin), -margin).sum(dim=1)

    return perceptron


COMPONENTS = (
    Loss(
        name="cross_entropy",
        description="cross-entropy of the softmax of the logits, with one logit for each class",
        reference="Szegedy et al., CVPR 2016 (label smoothing)",
        options=CrossEntropyOptions,
        tiny=({}, {"label_smoothing": 0.1}),
        tasks=LIKELIHOOD,
        default_for=frozenset({Task.MULTICLASS}),
        outputs=lambda info: info.classes,
        build=build_cross_entropy,
    ),
    Loss(
        name="nll",
        description="negative log-likelihood of the log-softmax of the logits, in two steps",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html",
        tasks=LIKELIHOOD,
        outputs=lambda info: info.classes,
        build=build_nll,
    ),
    Loss(
        name="softmax_twice",
        description="softmax before a cross-entropy that applies its own: a mistake, to measure it",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        tasks=CLASSIFICATION,
        outputs=lambda info: info.classes,
        build=build_softmax_twice,
    ),
    Loss(
        name="bce",
        description="binary cross-entropy of the sigmoid of a single logit; mean over labels",
        reference="Bishop, Pattern Recognition and Machine Learning (2006), 4.3.2",
        tasks=frozenset({Task.BINARY, Task.MULTILABEL}),
        default_for=frozenset({Task.BINARY, Task.MULTILABEL}),
        outputs=lambda info: info.targets,
        build=build_bce,
    ),
    Loss(
        name="perceptron",
        description="max(0, −y·z) with y = ±1; for several classes, the sum over one-vs-rest",
        reference="Rosenblatt, Psychological Review 65 (1958); scikit-learn's Perceptron",
        tasks=CLASSIFICATION,
        outputs=lambda info: 1 if info.task is Task.BINARY else info.classes,
        build=build_perceptron,
    ),
)
