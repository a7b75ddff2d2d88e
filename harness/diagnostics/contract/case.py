"""A case: a component with its options, and the data on which it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import SINGULAR, DataInfo, Task
from harness.experiment.trial import Choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EXAMPLES: Final = 6
MOST_COUNTED: Final = 5


class Lacking(Exception):
    """What a component lacks, in words."""


@dataclass(frozen=True, slots=True)
class Case:
    """A component to check.

    info: what is known of the data set. outputs: how many values the model returns for an example.
    dataset: the data set's name, for messages; "" where none is meant. model: what a training step
        trains; None for another component.
    """

    choice: Choice[Any]
    info: DataInfo
    outputs: int
    data_root: Path
    dataset: str = ""
    model: Choice[Any] | None = None

    @property
    def label(self) -> str:
        """ "model net(width=128) on digits"."""
        on = f" on {self.dataset}" if self.dataset else ""
        of = f" of {self.model.label}" if self.model else ""
        return f"{SINGULAR[self.choice.component.kind]} {self.choice.label}{of}{on}"


Check = Callable[[Case], Iterable[str]]
"""Raises `Lacking`; returns notes."""


def require(condition: object, lacks: str) -> None:
    """Raises Lacking unless the condition holds."""
    if not condition:
        raise Lacking(lacks)


def inputs(info: DataInfo, examples: int = EXAMPLES, seed: int = 0) -> Tensor:
    """Returns random inputs [B, *info.shape]: floats, or token numbers."""
    import torch

    if info.tokens:
        shape = (examples, *info.shape)
        return torch.randint(info.tokens, shape, generator=generator(seed))
    return torch.randn(examples, *info.shape, generator=generator(seed))


def targets(info: DataInfo, examples: int = EXAMPLES) -> Tensor:
    """Returns targets as training gives them: every class in turn, or random values."""
    import torch

    if info.task.is_classification:
        return torch.arange(examples) % max(info.classes, 1)
    values = torch.randn(examples, *info.target_shape, generator=generator(1))
    if info.task is Task.MULTILABEL:
        return (values > 0).float()
    return values.abs().mul(3).floor() if info.task is Task.COUNT else values


def generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(seed)


def listed(names: list[str]) -> str:
    """Returns the first names of a list, and how many more there are."""
    shown = ", ".join(names[:MOST_COUNTED])
    more = len(names) - MOST_COUNTED
    return f"{shown} and {more} more" if more > 0 else shown


def shape_of(value: Any) -> str:
    """Returns "[4, 10]" for a tensor, or what else it is."""
    import torch

    return (
        str(list(value.shape)) if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    )
