"""The contract of a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from harness.components.base import Task
from harness.diagnostics.contract.case import Case, Check, generator, require, targets

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES: Final = 24


def gives_a_number(case: Case) -> Iterator[str]:
    """It gives one number, the same again, and leaves what it measures as it is."""
    import torch

    outputs, wanted = _random(case), targets(case.info, EXAMPLES)
    kept = outputs.clone(), wanted.clone()
    first, again = _compute(case, outputs, wanted), _compute(case, outputs, wanted)
    require(isinstance(first, float), f"it gives {first!r}, and not a number")
    require(first == again or math.isnan(first), f"it gives {first:g}, and {again:g} the next time")
    unchanged = torch.equal(outputs, kept[0]) and torch.equal(wanted, kept[1])
    require(unchanged, "it changes the outputs or the targets in place")
    if math.isnan(first):
        yield "it is not defined for random outputs"


def is_nan_where_nothing_can_be_said(case: Case) -> Iterator[str]:
    """It is NaN without examples, and for outputs that are not finite."""
    outputs, wanted = _random(case), targets(case.info, EXAMPLES)
    without = _compute(case, outputs[:0], wanted[:0])
    require(math.isnan(without), f"it gives {without:g} without examples; expected NaN")
    outputs[0] = math.nan
    broken = _compute(case, outputs, wanted)
    require(
        math.isnan(broken),
        f"it gives {broken:g} for outputs that are NaN; expected NaN, so that a model that broke "
        "is not ranked",
    )
    yield from ()


def has_the_right_direction(case: Case) -> Iterator[str]:
    """A perfect prediction scores better than one that is always wrong."""
    wanted = targets(case.info, EXAMPLES)
    good, bad = (_compute(case, outputs, wanted) for outputs in _right_and_wrong(case, wanted))
    if math.isnan(good) or math.isnan(bad) or good == bad:
        yield f"right and wrong predictions score {good:g} and {bad:g}"
        return
    direction = case.choice.component.direction
    require(
        (good > bad) == (direction == "max"),
        f"its direction is {direction!r}, but a perfect prediction scores {good:g} and one that is "
        f"always wrong {bad:g}",
    )


def _compute(case: Case, outputs: Tensor, wanted: Tensor) -> float:
    value: float = case.choice.component.compute(outputs, wanted)
    return value


def _random(case: Case) -> Tensor:
    import torch

    outputs = torch.randn(EXAMPLES, _width(case), generator=generator(2))
    return outputs.abs() if case.info.task is Task.COUNT else outputs


def _width(case: Case) -> int:
    info = case.info
    return max(info.classes, 2) if info.task.is_classification else info.targets


def _right_and_wrong(case: Case, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Returns outputs that predict the targets, and outputs that never do."""
    from torch.nn import functional

    if case.info.task.is_classification:
        right = 5.0 * functional.one_hot(wanted, _width(case)).float()
        return right, right.flip(1)
    if case.info.task is Task.MULTILABEL:
        return 8 * wanted - 4, 4 - 8 * wanted
    right = wanted.clamp(min=1e-3) if case.info.task is Task.COUNT else wanted.clone()
    return right, 50 * right.flip(0)


CHECKS: Final[tuple[Check, ...]] = (
    gives_a_number,
    is_nan_where_nothing_can_be_said,
    has_the_right_direction,
)
