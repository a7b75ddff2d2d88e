"""K networks of one architecture as one: their parameters as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from harness.training.stacked.modules.forward_pass import DropoutMasks, ForwardPass, SharedInputs
from harness.training.stacked.modules.layers import translate

Values = dict[str, Tensor]

ROW_ALIGNMENT = 64
"""A row's length in numbers is a multiple of this, so that an update's vector instructions fall on
the same numbers of a trial whatever its row and the number of rows: trials around it then change
nothing in its last bits."""


@dataclass(frozen=True, slots=True)
class ParameterSlice:
    """Where a parameter lies in a row. transposed: whether it is held as [in, out]."""

    name: str
    start: int
    shape: tuple[int, ...]
    transposed: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    def stored(self, rows: Tensor) -> Tensor:
        """Its part of rows [K, P], as it is held: [K, *shape], or [K, in, out]; a view."""
        shape = self.shape[::-1] if self.transposed else self.shape
        return rows[:, self.start : self.start + self.size].view(len(rows), *shape)

    def own(self, row: Tensor) -> Tensor:
        """Its part of one row [P] in the shape that the model gives it; a view."""
        stored = self.stored(row.unsqueeze(0))[0]
        return stored.T if self.transposed else stored


class StackedNetwork:
    """K models that differ in their values alone.

    models: on the CPU, of one architecture; the first is kept for its structure.
    values, gradient: [K, P], one trial's parameters and their gradients in each row.
    Raises Unstackable where the architecture cannot be stacked.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        first = models[0]
        self._layers, transposed = translate(first)
        self._names = list(first.state_dict())
        self.places = _places(first, transposed)
        width = sum(place.size for place in self.places)
        self._padding = -width % ROW_ALIGNMENT
        self.values = torch.stack([self._row(model) for model in models]).to(device)
        self.gradient = torch.zeros_like(self.values)
        self.buffers = {
            name: torch.stack([dict(m.named_buffers())[name] for m in models]).to(device)
            for name, _ in first.named_buffers()
        }
        self._views()

    def __len__(self) -> int:
        return len(self.values)

    def forward(self, x: Tensor, sharing: SharedInputs, masks: DropoutMasks | None) -> Tensor:
        """Logits [K, B, O] of inputs [S, B, …].

        sharing: which of the S inputs each row has. masks: of dropout, in training; None evaluates.
        """
        training = masks is not None
        parameters = self._leaves if training else self._frozen
        return self._through(x, ForwardPass(parameters, self.buffers, training, masks, sharing))

    def _through(self, x: Tensor, run: ForwardPass) -> Tensor:
        shared = True
        for layer in self._layers:
            if shared and not layer.bare:
                shared = False
                if not layer.takes_shared:
                    x = run.sharing.spread(x)
            x = layer.run(x, run)
        return run.sharing.spread(x) if shared else x

    @property
    def is_rehearsed(self) -> bool:
        """Whether its passes in training mode are compared with the models' before it trains."""
        return any(layer.rehearsed for layer in self._layers)

    def rehearse(self, x: Tensor, sharing: SharedInputs, training: bool) -> tuple[Tensor, Values]:
        """Logits [K, B, O] and buffers after a pass without dropout; nothing of it is kept."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with torch.no_grad():
            run = ForwardPass(self._frozen, buffers, training, None, sharing)
            return self._through(x, run), buffers

    def backward(self, losses: Tensor) -> None:
        """Fill `gradient` from the examples' losses [K, B]: of each trial's mean, and never of the
        mean over trials."""
        share = losses.new_full((1, 1), 1 / losses.shape[1]).expand_as(losses)
        leaves = list(self._leaves.values())
        found = torch.autograd.grad(losses, leaves, share, allow_unused=True)
        parts = [
            torch.zeros_like(leaf).flatten(1) if g is None else g.flatten(1)
            for leaf, g in zip(leaves, found, strict=True)
        ]
        if self._padding:
            parts.append(self._zeros)
        torch.cat(parts, dim=1, out=self.gradient)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (int64, ascending)."""
        self.values = self.values[rows]
        self.gradient = self.gradient[rows]
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}
        self._views()

    def state_dict(self, row: int) -> Mapping[str, Tensor]:
        """One trial's parameters and buffers by the model's names, copied to the CPU."""
        values = self.values[row].cpu()
        found = {place.name: place.own(values).contiguous().clone() for place in self.places}
        found |= {name: buffer[row].cpu().clone() for name, buffer in self.buffers.items()}
        return {name: found[name] for name in self._names}

    def state(self) -> dict[str, Any]:
        """The living tensors: every row's parameters and buffers."""
        return {"values": self.values, "buffers": dict(self.buffers)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over such a state of as many rows. Raises RuntimeError where it is of another
        architecture."""
        values, buffers = state["values"], state["buffers"]
        if values.shape != self.values.shape or buffers.keys() != self.buffers.keys():
            raise RuntimeError(f"size mismatch: {list(values.shape)}, {list(self.values.shape)}")
        self.values.copy_(values)
        # As they are: a module may have given one another shape.
        self.buffers = {name: buffers[name].to(self.values.device) for name in self.buffers}

    def _row(self, model: nn.Module) -> Tensor:
        own = dict(model.named_parameters())
        parts = [
            (own[p.name].detach().T if p.transposed else own[p.name].detach()).flatten()
            for p in self.places
        ]
        return torch.cat([*parts, parts[0].new_zeros(self._padding)])

    def _views(self) -> None:
        """The parameters as tensors: leaves that autograd differentiates, and plain ones."""
        self._frozen = {place.name: place.stored(self.values) for place in self.places}
        self._leaves = {name: view.detach().requires_grad_() for name, view in self._frozen.items()}
        self._zeros = self.values.new_zeros((len(self.values), self._padding))


def _places(model: nn.Module, transposed: set[str]) -> list[ParameterSlice]:
    places = []
    start = 0
    for name, parameter in model.named_parameters():
        places.append(ParameterSlice(name, start, tuple(parameter.shape), name in transposed))
        start += parameter.numel()
    return places
