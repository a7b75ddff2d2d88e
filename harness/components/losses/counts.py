"""Losses of counts: the model returns the logarithm of the expected count.

Each returns one value for each example: the mean over its targets.
"""

from __future__ import annotations

from math import lgamma, log
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


class NegativeBinomialOptions(Options):
    dispersion: float = Field(
        1.0, gt=0, description="α: the variance of a count is μ + α μ², where μ is expected"
    )


def build_poisson(options: Options) -> LossFunction:
    from torch.nn import functional

    def poisson(logarithms: Tensor, targets: Tensor) -> Tensor:
        """logarithms, targets: [B, T]. Returns [B], the negative log-likelihood."""
        each = functional.poisson_nll_loss(logarithms, targets, reduction="none")
        return (each + (targets + 1).lgamma()).mean(dim=1)

    return poisson


def build_negative_binomial(options: NegativeBinomialOptions) -> LossFunction:
    import torch

    size = 1 / options.dispersion

    def negative_binomial(logarithms: Tensor, targets: Tensor) -> Tensor:
        """logarithms, targets: [B, T]. Returns [B], the negative log-likelihood."""
        total = torch.logaddexp(logarithms, torch.full_like(logarithms, log(size)))
        successes = targets * (total - logarithms) + size * (total - log(size))
        chosen = (targets + size).lgamma() - (targets + 1).lgamma()
        return (successes - chosen + lgamma(size)).mean(dim=1)

    return negative_binomial


def predict(logarithms: Tensor) -> Tensor:
    """Returns the expected counts."""
    return logarithms.exp()


COMPONENTS = (
    Loss(
        name="poisson",
        description="negative log-likelihood of Poisson's distribution",
        reference="Nelder and Wedderburn, Journal of the Royal Statistical Society A 135 (1972)",
        tasks=frozenset({Task.COUNT}),
        default_for=frozenset({Task.COUNT}),
        outputs=lambda info: info.targets,
        build=build_poisson,
        predict=predict,
    ),
    Loss(
        name="negative_binomial",
        description="negative log-likelihood of counts that vary more than Poisson's",
        reference="Hilbe, Negative Binomial Regression (2011), 8.2 (NB2)",
        options=NegativeBinomialOptions,
        tiny=({}, {"dispersion": 0.3}),
        tasks=frozenset({Task.COUNT}),
        outputs=lambda info: info.targets,
        build=build_negative_binomial,
        predict=predict,
    ),
)
