"""What a forward pass over a stack is made of: inputs and outputs are [K, B, …]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from harness.core.errors import HarnessError
from harness.training.stacked.sharing import Sharing


class Unstackable(HarnessError):
    """This model cannot be trained as a stack; the message says why, and its trials train one by
    one."""


class Masks(Protocol):
    """Where dropout's masks come from."""

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        """[K, *shape] of 0 and 1 / (1 − p). shape: of one trial's batch, the examples first."""
        ...


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass needs beside the inputs.

    parameters, buffers: stacked, by the model's names for them. training: whether batches are
    normalised by their own statistics. masks: of dropout; None leaves it out, as in evaluation.
    sharing: which inputs each row has.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    training: bool
    masks: Masks | None
    sharing: Sharing


Function = Callable[[Tensor, Pass], Tensor]
"""[K, B, …] → [K, B, …]."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    bare: whether it has nothing of each trial's own, so that it serves shared inputs [S, B, …] as
    well. takes_shared: whether it takes shared inputs to [K, B, …] by itself. rehearsed: whether a
    pass in training mode is compared with the model's own before it is trusted.
    """

    run: Function
    bare: bool = False
    takes_shared: bool = False
    rehearsed: bool = False
