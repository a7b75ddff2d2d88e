"""Features of a table, filled in and scaled by what the training split alone shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.components.base import Examples, Impute
from harness.core.errors import HarnessError


@dataclass(frozen=True, slots=True)
class Scaler:
    """What scikit-learn's StandardScaler does: (x − mean) / deviation, each feature by itself.

    mean, deviation: [features] float64; the population's deviation, 1 for a constant feature.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, inputs: Tensor) -> Scaler:
        """inputs: [N, features], of the training split."""
        exact = inputs.double()
        mean, deviation = exact.mean(0), exact.std(0, correction=0)
        # What is left of a constant feature after rounding is no spread.
        smallest = 10 * torch.finfo(torch.float64).eps * mean.abs().clamp(min=1)
        return cls(mean, torch.where(deviation > smallest, deviation, 1.0))

    def __call__(self, inputs: Tensor) -> Tensor:
        return ((inputs.double() - self.mean) / self.deviation).float()


def imputed(
    impute: Impute, train: Examples, val: Examples | None, test: Examples
) -> tuple[Examples, Examples | None, Examples]:
    """The three splits with what is missing (NaN) filled in by what the training split shows.

    Raises InputError where it shows nothing of a column.
    """
    fill = impute.fit(_resident(train))

    def filled(examples: Examples) -> Examples:
        inputs = _resident(examples)
        return replace(examples, inputs=inputs.where(~inputs.isnan(), fill))

    return filled(train), filled(val) if val else None, filled(test)


def standardised(
    train: Examples, val: Examples | None, test: Examples
) -> tuple[Examples, Examples | None, Examples]:
    """The three splits with the training split's mean and deviation taken out of each feature."""
    scale = Scaler.fit(_resident(train))
    return (
        replace(train, inputs=scale(_resident(train))),
        replace(val, inputs=scale(_resident(val))) if val else None,
        replace(test, inputs=scale(_resident(test))),
    )


def _resident(examples: Examples) -> Tensor:
    if not isinstance(examples.inputs, Tensor):
        raise HarnessError("a data set read from disk by example cannot be standardised")
    return examples.inputs
