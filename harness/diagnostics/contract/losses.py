"""The contract of a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.diagnostics.contract.case import (
    EXAMPLES,
    Case,
    Check,
    generator,
    require,
    shape_of,
    targets,
)

if TYPE_CHECKING:
    from torch import Tensor


def gives_one_value_for_each_example(case: Case) -> Iterator[str]:
    """It gives one finite float32 value for each example."""
    import torch

    values = _loss(case)(_outputs(case), targets(case.info))
    is_right = isinstance(values, torch.Tensor) and values.shape == (EXAMPLES,)
    require(is_right, f"it gives {shape_of(values)} for {EXAMPLES} examples; expected [{EXAMPLES}]")
    require(values.dtype == torch.float32, f"it gives {values.dtype}; expected torch.float32")
    require(values.isfinite().all(), "its values of ordinary outputs are not finite")
    yield from ()


def has_a_gradient(case: Case) -> Iterator[str]:
    """Its gradient by the outputs is finite, and not zero everywhere."""
    outputs = _outputs(case).requires_grad_()
    values = _loss(case)(outputs, targets(case.info))
    require(values.requires_grad, "its value does not depend on the outputs: no gradient flows")
    values.mean().backward()
    require(outputs.grad is not None, "its value does not depend on the outputs")
    require(outputs.grad.isfinite().all(), "its gradient is not finite")  # type: ignore[union-attr]
    require(outputs.grad.any(), "its gradient is zero: nothing would train")  # type: ignore[union-attr]
    yield from ()


def keeps_examples_apart(case: Case) -> Iterator[str]:
    """The loss of an example does not depend on the others of its batch."""
    import torch

    loss, outputs, wanted = _loss(case), _outputs(case), targets(case.info)
    together = loss(outputs, wanted)
    try:
        alone = [loss(outputs[i : i + 1], wanted[i : i + 1]) for i in range(EXAMPLES)]
        equal = torch.allclose(torch.cat(alone), together, rtol=1e-4, atol=1e-5)
    except Exception as error:  # noqa: BLE001 - a loss over pairs of examples may need two of them
        yield f"it cannot take a batch of one example: {error}"
        return
    if not equal:
        yield "the loss of an example depends on the others of its batch: evaluation batches count"


def shows_what_is_not_a_number(case: Case) -> Iterator[str]:
    """Outputs that are NaN make the loss NaN, so that a trial that broke is seen."""
    outputs = _outputs(case)
    outputs[1] = math.nan
    values = _loss(case)(outputs, targets(case.info))
    require(
        values.isnan()[1],
        "it gives a number for outputs that are NaN: a trial that diverged would look well",
    )
    yield from ()


def _loss(case: Case) -> Any:
    return case.choice.component.build(case.choice.options)


def _outputs(case: Case) -> Tensor:
    import torch

    width = case.choice.component.outputs(case.info)
    return 2 * torch.randn(EXAMPLES, width, generator=generator(0))


CHECKS: Final[tuple[Check, ...]] = (
    gives_one_value_for_each_example,
    has_a_gradient,
    keeps_examples_apart,
    shows_what_is_not_a_number,
)
