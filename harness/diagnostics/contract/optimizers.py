"""The contract of an optimizer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from harness.core.errors import first_line
from harness.diagnostics.contract.case import Case, Check, Lacking, generator, listed, require

if TYPE_CHECKING:
    from torch import Tensor

    from harness.training.optimizer import Evaluation

RATE: Final = 0.01
STEPS: Final = 5


class _Run:
    """A small network and its optimizer, which train on the same batches in every run."""

    def __init__(self, case: Case) -> None:
        import torch
        from torch import nn

        from harness.training.optimizer import TrialOptimizer

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.optimizer = TrialOptimizer(case.choice, self.model.named_parameters(), RATE)

    def train(self, start: int, steps: int) -> None:
        """Trains on batches `start`, `start` + 1, …"""
        import torch
        from torch.nn import functional

        for step in range(start, start + steps):
            inputs, targets = torch.randn(6, 7, generator=generator(step)).split([4, 3], dim=1)

            def evaluate(inputs: Tensor = inputs, targets: Tensor = targets) -> Evaluation:
                outputs = self.model(inputs)
                losses = functional.mse_loss(outputs, targets, reduction="none").mean(1)
                losses.mean().backward()
                return outputs, losses.detach()

            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(step)  # An optimizer may draw: training gives it a seed.
                self.optimizer.step(evaluate, self.model)

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def _trained(case: Case, steps: int = STEPS) -> _Run:
    run = _Run(case)
    run.train(0, steps)
    return run


def updates_every_parameter(case: Case) -> Iterator[str]:
    """Its steps change every parameter, and the values stay finite."""
    import torch

    before, after = _Run(case).weights, _trained(case).weights
    still = [name for name in before if torch.equal(before[name], after[name])]
    require(not still, f"{STEPS} steps leave {listed(still)} as they were")
    broken = [name for name, value in after.items() if not value.isfinite().all()]
    require(not broken, f"{STEPS} steps with lr {RATE} make {listed(broken)} infinite or NaN")
    yield from ()


def is_deterministic(case: Case) -> Iterator[str]:
    """Two runs on the same gradients end with equal weights."""
    import torch

    first, again = _trained(case).weights, _trained(case).weights
    differing = [name for name in first if not torch.equal(first[name], again[name])]
    require(not differing, f"two runs on the same gradients differ in {listed(differing)}")
    yield from ()


def resumes_from_its_state_dict(case: Case) -> Iterator[str]:
    """An optimizer that loads its state dict goes on to the same weights, bit by bit."""
    import torch

    whole, part, resumed = _trained(case, 2 * STEPS), _trained(case), _Run(case)
    file = io.BytesIO()
    try:
        torch.save(part.optimizer.state(), file)
        file.seek(0)
        resumed.model.load_state_dict(part.model.state_dict())
        resumed.optimizer.load(torch.load(file, weights_only=True))
    except Exception as error:
        what = f"its state_dict cannot be stored and loaded: {first_line(error)}"
        raise Lacking(what) from error
    resumed.train(STEPS, STEPS)
    expected, found = whole.weights, resumed.weights
    differing = [name for name in expected if not torch.equal(expected[name], found[name])]
    require(
        not differing,
        f"resumed from its state_dict it goes on otherwise ({listed(differing)} differ): keep in "
        "self.state and in the param_groups whatever a step needs",
    )
    yield from ()


def reads_the_rate_at_each_step(case: Case) -> Iterator[str]:
    """It takes lr from its param_groups at each step, so that a schedule changes it."""
    import torch

    same, lower = _trained(case), _trained(case)
    lower.optimizer.set_lr(RATE / 10)
    for run in (same, lower):
        run.train(STEPS, 2)  # One that averages may take a new rate one step later.
    changed = any(
        not torch.equal(a, b)
        for a, b in zip(same.weights.values(), lower.weights.values(), strict=True)
    )
    require(changed, "another lr in its param_groups changes nothing: a schedule has no effect")
    yield from ()


def can_be_stacked(case: Case) -> Iterator[str]:
    """Says whether trials can train in a stack."""
    reason = case.choice.component.one_by_one(case.choice.options)
    if reason:
        yield f"its trials train one by one, not as a stack: {reason}"


CHECKS: Final[tuple[Check, ...]] = (
    updates_every_parameter,
    is_deterministic,
    resumes_from_its_state_dict,
    reads_the_rate_at_each_step,
    can_be_stacked,
)
