"""A training step of a user's own: the losses of a batch, and what the metrics of training take."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.components.base import NONE, Batch, DataInfo, TrainingStep
from harness.core.errors import InputError, Problem
from harness.core.seeding import generator
from harness.core.text import kind_of
from harness.experiment.trial import Trial

STREAM = "training_step"


class OwnStep:
    """The training step of a trial.

    outputs: how many values it must return for each example.
    """

    def __init__(self, trial: Trial, info: DataInfo, outputs: int) -> None:
        self._choice = trial.training_step
        self._step: TrainingStep = trial.training_step.component
        self._info = info
        self._outputs = outputs

    @classmethod
    def of(cls, trial: Trial, info: DataInfo) -> OwnStep | None:
        """Returns the training step of a trial; None if it has none of its own."""
        if trial.training_step.name == NONE:
            return None
        return cls(trial, info, trial.loss.component.outputs(info))

    def __call__(
        self, model: nn.Module, batch: Batch, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Returns a batch's outputs [B, O] and losses [B]. Raises InputError for what a step must
        not return, and for a step that changes its batch or computes gradients itself."""
        versions = batch.inputs._version, batch.targets._version
        without_gradient = [p for p in model.parameters() if p.grad is None]
        result = self.run(model, batch, random)
        if versions != (batch.inputs._version, batch.targets._version):
            raise self._wrong("changed its batch in place", "work on a copy: batch.inputs.clone()")
        if any(parameter.grad is not None for parameter in without_gradient):
            wrong = "computed gradients itself, which would count twice"
            raise self._wrong(wrong, "leave out .backward(): the harness does it")
        if not result[1].requires_grad and torch.is_grad_enabled():
            wrong = "returned losses that do not depend on the model's parameters"
            raise self._wrong(wrong, "did .detach(), .data or torch.no_grad() cut them off?")
        return result

    def run(self, model: nn.Module, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns outputs and losses. Raises InputError for those of another form."""
        result = self._step.run(self._choice.options, self._info, model, batch, random)
        hint = "return the loss of each example, [B], and the model's outputs: losses, outputs"
        if not isinstance(result, tuple | list) or len(result) != 2:
            returned = _described(result)
            if isinstance(result, tuple | list):
                returned = f"{len(result)} values"
            raise self._wrong(f"returned {returned}, and not two tensors", hint)
        losses, outputs = result
        examples = len(batch.inputs)
        if not isinstance(losses, Tensor) or losses.ndim == 0 or len(losses) != examples:
            raise self._wrong(
                f"returned {_described(losses)} as losses of {examples} examples", hint
            )
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or len(outputs) != examples:
            raise self._wrong(
                f"returned {_described(outputs)} as outputs of {examples} examples", hint
            )
        if outputs[0].numel() != self._outputs:
            raise self._wrong(
                f"returned {outputs[0].numel()} outputs for each example",
                f"the trial's loss and metrics take {self._outputs}",
            )
        return outputs, losses if losses.ndim == 1 else losses.flatten(1).mean(1)

    def _wrong(self, what: str, hint: str) -> InputError:
        problem = Problem(f"training_step {self._choice.name} {what}", self._step.place, hint)
        return InputError(problem)


def step_generator(seed: int, epoch: int, device: str) -> torch.Generator:
    """Returns what a trial's own training step draws from in an epoch (from 1)."""
    return generator(seed, STREAM, epoch, device=device)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return "a single number" if value.ndim == 0 else f"a tensor of shape {list(value.shape)}"
    return kind_of(value)
