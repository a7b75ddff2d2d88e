"""A training step of a user's own for all trials of a stack, by `torch.vmap`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.components.base import Batch
from harness.training.own_step import OwnStep
from harness.training.stacked.modules.draws import Draw, DrawInterceptor
from harness.training.stacked.modules.dropout import DropoutInterceptor, MaskSpec
from harness.training.stacked.modules.forward_pass import DropoutMasks
from harness.training.stacked.modules.vmap import Values, run_vmapped, with_cumulative_averages


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a batch needs that is drawn: dropout masks, and the draws of the step itself."""

    masks: tuple[MaskSpec, ...]
    draws: tuple[Draw, ...]


class StackedStep:
    """The training step of all trials of a stack.

    model: supplies structure and code; the values it holds are not used.
    """

    def __init__(self, own: OwnStep, model: nn.Module, device: torch.device) -> None:
        self.own = own
        self._generator = torch.Generator(device)
        self._module = _StepModule(with_cumulative_averages(model), own, self._generator)
        self._plans: dict[tuple[torch.Size, torch.Size], _Plan] = {}

    @property
    def draws(self) -> bool:
        """Whether it draws, as far as the batches tell that it has seen."""
        return any(plan.draws for plan in self._plans.values())

    def run(
        self,
        parameters: Values,
        buffers: Values,
        batch: Batch,
        masks: DropoutMasks | None,
        draw: Callable[[Draw], Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns outputs [K, B, O] and losses [K, B] of a batch [K, B, …]; updates the buffers.

        masks: None leaves dropout out. draw: returns what each trial draws by a call, [K, …].
        """
        shapes = batch.inputs.shape[1:], batch.targets.shape[1:]
        if shapes not in self._plans:
            self._plans[shapes] = self._plan(parameters, buffers, batch)
        plan = self._plans[shapes]
        given = (
            []
            if masks is None
            else [masks.next(f"0.{use}", spec.shape, spec.p) for use, spec in enumerate(plan.masks)]
        )
        if plan.draws and draw is None:
            raise RuntimeError("its training step draws")
        drawn = [draw(one) for one in plan.draws] if draw else []

        @contextmanager
        def intercept(of_trial: tuple[list[Tensor], list[Tensor]]) -> Iterator[None]:
            dropout = DropoutInterceptor(plan.masks)
            draws = DrawInterceptor(self._generator, plan.draws)
            dropout.masks = None if masks is None else of_trial[0]
            draws.drawn = of_trial[1]
            with dropout, draws:
                yield

        self._module.train()
        values = _of_step(parameters), _of_step(buffers)
        out: tuple[Tensor, Tensor] = run_vmapped(
            self._module, *values, tuple(batch), intercept, (given, drawn)
        )
        return out

    def _plan(self, parameters: Values, buffers: Values, batch: Batch) -> _Plan:
        """Runs a pass of the first trial by itself, on copied buffers."""
        dropout, draws = DropoutInterceptor(), DrawInterceptor(self._generator)
        values = {name: value[0].detach() for name, value in parameters.items()}
        values |= {name: buffer[0].clone() for name, buffer in buffers.items()}
        first = tuple(tensor[0].clone() for tensor in batch)
        self._module.train()
        with torch.no_grad(), dropout, draws:
            torch.func.functional_call(self._module, _of_step(values), first)
        return _Plan(tuple(dropout.seen), tuple(draws.seen))


class _StepModule(nn.Module):
    """A model's training step as a module, so that torch can replace the model's values."""

    def __init__(self, model: nn.Module, own: OwnStep, generator: torch.Generator) -> None:
        super().__init__()
        self.model = model
        self._own = own
        self._generator = generator

    def forward(self, inputs: Tensor, targets: Tensor) -> Any:
        return self._own.run(self.model, Batch(inputs, targets), self._generator)


def _of_step(values: Values) -> Values:
    return {f"model.{name}": value for name, value in values.items()}
