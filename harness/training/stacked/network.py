"""K networks of one architecture as one, with their parameters in the rows of one matrix."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from harness.training.stacked.modules.forward_pass import DropoutMasks, ForwardPass, SharedInputs
from harness.training.stacked.modules.layers import translate

ROW_ALIGNMENT = 64
"""The length of a row is a multiple of this: vector instructions then process the same
numbers of a trial together in every row, so that other trials do not change its last bits."""


@dataclass(frozen=True, slots=True)
class ParameterSlice:
    """The slice of a row that holds a parameter. transposed: whether it is stored as [in, out]."""

    name: str
    start: int
    shape: tuple[int, ...]
    transposed: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    def stored(self, values: Tensor) -> Tensor:
        """Returns a view of values [K, P] as they are stored: [K, *shape] or [K, in, out]."""
        shape = self.shape[::-1] if self.transposed else self.shape
        return values[:, self.start : self.start + self.size].view(len(values), *shape)

    def of_trial(self, row: Tensor) -> Tensor:
        """Returns a view of one row [P] in the shape that the model gives the parameter."""
        stored = self.stored(row.unsqueeze(0))[0]
        return stored.T if self.transposed else stored


class StackedNetwork:
    """K models that differ in their values alone.

    models: on the CPU, of one architecture; the first supplies the structure.
    values, gradient: [K, P], the parameters and their gradients, one trial in each row.
    Raises Unstackable if the architecture cannot be stacked.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        first = models[0]
        self._layers, transposed = translate(first)
        self._names = list(first.state_dict())
        self.slices: list[ParameterSlice] = []
        width = 0
        for name, parameter in first.named_parameters():
            shape = tuple(parameter.shape)
            self.slices.append(ParameterSlice(name, width, shape, name in transposed))
            width += parameter.numel()
        self._padding = -width % ROW_ALIGNMENT
        self.values = torch.stack([self._row(model) for model in models]).to(device)
        self.gradient = torch.zeros_like(self.values)
        self.buffers = {
            name: torch.stack([dict(m.named_buffers())[name] for m in models]).to(device)
            for name, _ in first.named_buffers()
        }
        self._create_views()

    def __len__(self) -> int:
        return len(self.values)

    def forward(self, x: Tensor, shared: SharedInputs, masks: DropoutMasks | None) -> Tensor:
        """Computes logits [K, B, O] of inputs [S, B, …].

        masks: for dropout, in training; None evaluates.
        """
        training = masks is not None
        parameters = self._leaves if training else self._views
        return self._run(x, ForwardPass(parameters, self.buffers, training, masks, shared))

    def forward_without_trace(
        self, x: Tensor, shared: SharedInputs, training: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits [K, B, O] and buffers after a pass without dropout; changes nothing."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with torch.no_grad():
            logits = self._run(x, ForwardPass(self._views, buffers, training, None, shared))
        return logits, buffers

    @property
    def is_verified_in_training(self) -> bool:
        """Whether passes in training mode are compared with the models' before it trains."""
        return any(layer.is_verified_in_training for layer in self._layers)

    def leaves(self) -> dict[str, Tensor]:
        """Returns the parameters [K, …] as the model shapes them; `backward` differentiates by
        them."""
        return {
            part.name: leaf.transpose(1, 2) if part.transposed else leaf
            for part, leaf in zip(self.slices, self._leaves.values(), strict=True)
        }

    def backward(self, losses: Tensor) -> None:
        """Computes `gradient` from the examples' losses [K, B]: that of each trial's mean loss."""
        weights = losses.new_full((1, 1), 1 / losses.shape[1]).expand_as(losses)
        leaves = list(self._leaves.values())
        gradients = torch.autograd.grad(losses, leaves, weights, allow_unused=True)
        parts = [
            torch.zeros_like(leaf).flatten(1) if g is None else g.flatten(1)
            for leaf, g in zip(leaves, gradients, strict=True)
        ]
        if self._padding:
            parts.append(self._zeros)
        torch.cat(parts, dim=1, out=self.gradient)

    def copy(self, indices: Tensor) -> StackedNetwork:
        """Returns a network of copies of these trials (int64, ascending)."""
        network = copy.copy(self)
        network.select(indices)
        return network

    def select(self, indices: Tensor) -> None:
        """Continues with these trials alone (int64, ascending)."""
        self.values = self.values[indices]
        self.gradient = self.gradient[indices]
        self.buffers = {name: buffer[indices] for name, buffer in self.buffers.items()}
        self._create_views()

    def mask(self, excluded: Collection[str]) -> Tensor | None:
        """Returns [P] booleans that are False for these parameters; None if there are none."""
        if not excluded:
            return None
        mask = torch.ones_like(self.values[:1], dtype=torch.bool)
        for part in self.slices:
            if part.name in excluded:
                part.stored(mask).fill_(False)
        return mask[0]

    def state_dict(self, index: int) -> Mapping[str, Tensor]:
        """Returns one trial's parameters and buffers by the model's names, copied to the CPU."""
        row = self.values[index].cpu()
        values = {part.name: part.of_trial(row).contiguous().clone() for part in self.slices}
        values |= {name: buffer[index].cpu().clone() for name, buffer in self.buffers.items()}
        return {name: values[name] for name in self._names}

    def state(self) -> dict[str, Any]:
        """Returns the parameters and buffers of all trials; not copies."""
        return {"values": self.values, "buffers": dict(self.buffers)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Loads the state of as many trials. Raises RuntimeError if the architecture differs."""
        values, buffers = state["values"], state["buffers"]
        if values.shape != self.values.shape or buffers.keys() != self.buffers.keys():
            raise RuntimeError(f"size mismatch: {list(values.shape)}, {list(self.values.shape)}")
        self.values.copy_(values)
        # Not copied into the old tensors: a module may have changed a buffer's shape.
        self.buffers = {name: buffers[name].to(self.values.device) for name in self.buffers}

    def _run(self, x: Tensor, context: ForwardPass) -> Tensor:
        is_shared = True
        for layer in self._layers:
            if is_shared and not layer.is_stateless:
                is_shared = False
                if not layer.accepts_shared:
                    x = context.shared.expand(x)
            x = layer.run(x, context)
        return context.shared.expand(x) if is_shared else x

    def _row(self, model: nn.Module) -> Tensor:
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        parts = [
            (parameters[p.name].T if p.transposed else parameters[p.name]).flatten()
            for p in self.slices
        ]
        return torch.cat([*parts, parts[0].new_zeros(self._padding)])

    def _create_views(self) -> None:
        """Creates views of `values`, and leaves that autograd differentiates by."""
        self._views = {part.name: part.stored(self.values) for part in self.slices}
        self._leaves = {name: view.detach().requires_grad_() for name, view in self._views.items()}
        self._zeros = self.values.new_zeros((len(self.values), self._padding))
