"""The contract of a model."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import Task
from harness.diagnostics.contract.case import (
    EXAMPLES,
    Case,
    Check,
    generator,
    inputs,
    listed,
    require,
    shape_of,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

STEPS: Final = 4
"""Steps within which a gradient must reach every parameter. Some parameters get none at first, as
those of a branch that begins at zero."""


def build(case: Case, seed: int = 0) -> nn.Module:
    """Returns the model of a case as a trial with this seed builds it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        choice = case.model or case.choice
        model: nn.Module = choice.component.build(choice.options, case.info, case.outputs)
    return model


def maps_a_batch_to_outputs(case: Case) -> Iterator[str]:
    """It returns one row of finite float32 outputs for each example, also for one example."""
    model = build(case)
    _require_outputs(case, model(inputs(case.info)), EXAMPLES, "in training")
    model.eval()
    for examples in (EXAMPLES, 1):
        batch = inputs(case.info, examples)
        _require_outputs(case, model(batch), examples, f"of {examples} in evaluation")
    yield from ()


def leaves_its_input(case: Case) -> Iterator[str]:
    """It leaves its input as it is."""
    import torch

    batch = inputs(case.info)
    kept = batch.clone()
    with torch.no_grad():
        build(case).eval()(batch)
    require(torch.equal(batch, kept), "forward changes its input in place: the data would change")
    yield from ()


def follows_the_seed(case: Case) -> Iterator[str]:
    """Two builds from one seed have equal weights, and another seed gives others."""
    import torch

    first, again, other = (build(case, seed).state_dict() for seed in (0, 0, 1))
    differing = [name for name, value in first.items() if not torch.equal(value, again[name])]
    require(
        not differing,
        f"two builds from one seed differ in {listed(differing)}: draw initial weights from "
        "torch's global generator alone",
    )
    drawn = [name for name, value in first.items() if value.unique().numel() > 1]
    if not drawn:
        yield "its initial weights are constant"
    elif all(torch.equal(first[name], other[name]) for name in drawn):
        yield (
            "its initial weights are the same with every seed: they are pretrained, or the code "
            "sets a seed of its own"
        )


def gradients_reach_every_parameter(case: Case) -> Iterator[str]:
    """A finite gradient reaches every parameter."""
    import torch

    model = build(case)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        yield f"frozen: {listed(frozen)}"
    require(trainable, "it has no parameter that can be trained")
    reached: set[str] = set()
    late: list[str] = []
    for step in range(STEPS):
        if step and len(reached) == len(trainable):
            break
        model.zero_grad()
        outputs = model(inputs(case.info, seed=step))
        weights = torch.randn(outputs.shape, generator=generator(step))
        (outputs * weights).sum().backward()
        for name, parameter in trainable.items():
            if parameter.grad is not None and parameter.grad.any():
                require(parameter.grad.isfinite().all(), f"the gradient of {name} is not finite")
                late += [name] if step and name not in reached else []
                reached.add(name)
        with torch.no_grad():
            for parameter in trainable.values():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3)
    without = [name for name in trainable if name not in reached]
    require(not without, f"no gradient reaches {listed(without)}: forward does not use it")
    if late:
        yield f"no gradient reaches these at the first step: {listed(late)}"


def evaluates_deterministically(case: Case) -> Iterator[str]:
    """In evaluation, one input always gives the same outputs."""
    import torch

    model = build(case).eval()
    with torch.no_grad():
        first, again = model(inputs(case.info)), model(inputs(case.info))
    require(
        torch.equal(first, again),
        "in evaluation it gives other outputs the second time: draw random numbers only where "
        "self.training, and keep no state",
    )
    yield from ()


def resumes_from_its_state_dict(case: Case) -> Iterator[str]:
    """A model that loads its state dict computes the same."""
    import torch

    model, loaded = build(case), build(case, seed=1).eval()
    model(inputs(case.info))  # Moves running statistics off their first values.
    model.eval()
    loaded.load_state_dict(model.state_dict())
    with torch.no_grad():
        equal = torch.equal(model(inputs(case.info)), loaded(inputs(case.info)))
    require(
        equal,
        "with the weights of its state_dict it computes something else: keep its state in "
        "parameters and buffers (register_buffer)",
    )
    yield from ()


def can_be_pickled(case: Case) -> Iterator[str]:
    """It can be pickled."""
    import torch

    model = build(case).eval()
    try:
        pickled = pickle.loads(pickle.dumps(model))  # noqa: S301 - made on the line itself
    except Exception as error:  # noqa: BLE001 - pickle raises whatever a class raises
        yield f"it cannot be pickled: {error}"
        return
    with torch.no_grad():
        require(
            torch.equal(model(inputs(case.info)), pickled(inputs(case.info))),
            "pickled and unpickled, it computes something else",
        )


def can_be_stacked(case: Case) -> Iterator[str]:
    """Says whether trials can train in a stack."""
    from harness.training.stacked.compatibility import model_refusal

    reason = model_refusal(case.choice, case.info, case.outputs)
    if reason:
        yield f"its trials train one by one, not as a stack: {reason}"


def _require_outputs(case: Case, outputs: Tensor | Any, examples: int, when: str) -> None:
    import torch

    wanted = [[examples, case.outputs]]
    if case.info.task is Task.AUTOENCODING:
        wanted.append([examples, *case.info.shape])
    is_right = isinstance(outputs, torch.Tensor) and list(outputs.shape) in wanted
    given = f"of {list(case.info.shape)}"
    require(
        is_right,
        f"it returns {shape_of(outputs)} for {examples} examples {given}, {when}; "
        f"expected {' or '.join(map(str, wanted))}",
    )
    require(outputs.dtype == torch.float32, f"it returns {outputs.dtype}; expected torch.float32")
    require(outputs.isfinite().all(), "its first outputs are not finite")


CHECKS: Final[tuple[Check, ...]] = (
    maps_a_batch_to_outputs,
    leaves_its_input,
    follows_the_seed,
    gradients_reach_every_parameter,
    evaluates_deterministically,
    resumes_from_its_state_dict,
    can_be_pickled,
    can_be_stacked,
)
