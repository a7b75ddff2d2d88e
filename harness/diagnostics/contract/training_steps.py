"""The contract of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import Batch
from harness.diagnostics.contract.case import (
    EXAMPLES,
    Case,
    Check,
    generator,
    inputs,
    listed,
    require,
    shape_of,
    targets,
)
from harness.diagnostics.contract.models import build

if TYPE_CHECKING:
    from torch import nn


def gives_losses_and_outputs(case: Case) -> Iterator[str]:
    """It returns one finite loss for each example, and the outputs of the batch."""
    import torch

    result = _run(case, build(case))
    is_pair = isinstance(result, tuple) and len(result) == 2
    require(is_pair, f"it returns {shape_of(result)}; expected losses and outputs")
    losses, outputs = result
    is_right = isinstance(losses, torch.Tensor) and losses.shape == (EXAMPLES,)
    wanted = f"expected [{EXAMPLES}]"
    require(is_right, f"its losses are {shape_of(losses)} for {EXAMPLES} examples; {wanted}")
    require(losses.isfinite().all(), "its losses are not finite")
    found = isinstance(outputs, torch.Tensor) and len(outputs) == EXAMPLES
    require(found, f"its outputs are {shape_of(outputs)}; expected one row for each example")
    yield from ()


def trains_the_model(case: Case) -> Iterator[str]:
    """The gradient of its losses reaches the model."""
    model = build(case)
    losses, _ = _run(case, model)
    require(losses.requires_grad, "its losses do not depend on the model: nothing would train")
    losses.mean().backward()
    reached = {n: p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters()}
    require(any(reached.values()), "no gradient reaches the model: nothing would train")
    without = [name for name, has_gradient in reached.items() if not has_gradient]
    if without:
        yield f"no gradient reaches {listed(without)}"


def draws_from_its_generator_alone(case: Case) -> Iterator[str]:
    """Its generator is its only source of random numbers."""
    import torch

    found = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Dropout draws from torch's global generator.
            found.append(_run(case, build(case).eval())[0])
    require(
        torch.equal(*found),
        "the same generator gives other losses: draw all random numbers from the generator that "
        "it is given",
    )
    yield from ()


def leaves_the_batch(case: Case) -> Iterator[str]:
    """It leaves the batch as it is."""
    import torch

    batch = _batch(case)
    kept = Batch(batch.inputs.clone(), batch.targets.clone())
    _run(case, build(case), batch)
    unchanged = all(torch.equal(one, other) for one, other in zip(batch, kept, strict=True))
    require(unchanged, "it changes the batch in place: the data would change")
    yield from ()


def _run(case: Case, model: nn.Module, batch: Batch | None = None) -> Any:
    run = case.choice.component.run
    return run(case.choice.options, case.info, model, batch or _batch(case), generator(1))


def _batch(case: Case) -> Batch:
    return Batch(inputs(case.info), targets(case.info))


CHECKS: Final[tuple[Check, ...]] = (
    gives_losses_and_outputs,
    trains_the_model,
    draws_from_its_generator_alone,
    leaves_the_batch,
)
