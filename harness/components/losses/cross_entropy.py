"""Cross-entropy of softmax probabilities, and two other ways to write it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


FEW_CLASSES, MANY_EXAMPLES = 16, 512
"""With fewer classes than this, and at least as many examples, torch's softmax takes a quarter of
the time on a CPU if examples are contiguous in memory: few classes fill no vector register."""


class CrossEntropyOptions(Options):
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each target that is spread evenly over all classes"
    )


def outputs(info: DataInfo) -> int:
    return len(info.classes)


def build_cross_entropy(options: CrossEntropyOptions) -> LossFunction:
    from torch.nn import functional

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B]."""
        on_cpu = logits.device.type == "cpu"
        if on_cpu and logits.shape[1] < FEW_CLASSES and len(logits) >= MANY_EXAMPLES:
            return unreduced(logits.t().unsqueeze(0), targets.unsqueeze(0))[0]
        return unreduced(logits, targets)

    unreduced = partial(
        functional.cross_entropy, reduction="none", label_smoothing=options.label_smoothing
    )
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


COMPONENTS = (
    Loss(
        name="cross_entropy",
        description="cross-entropy of the softmax of the logits, with one logit for each class",
        reference="Szegedy et al., CVPR 2016 (label smoothing)",
        options=CrossEntropyOptions,
        tiny=({}, {"label_smoothing": 0.1}),
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS}),
        outputs=outputs,
        build=build_cross_entropy,
    ),
    Loss(
        name="nll",
        description="negative log-likelihood of the log-softmax of the logits, in two steps",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        outputs=outputs,
        build=build_nll,
    ),
    Loss(
        name="softmax_twice",
        description="softmax before a cross-entropy that applies its own: a mistake, to measure it",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        outputs=outputs,
        build=build_softmax_twice,
    ),
)
