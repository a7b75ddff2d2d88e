"""What a training loop of a user's own receives: its trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.components.base import DataInfo, LossFunction

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class TrialContext(ABC):
    """The trial that a training loop trains.

    seed: the trial's. torch, numpy and random are seeded from it before the loop starts.
    epochs: how often the loop yields; the harness ends it after so many.
    batch_size: the trial's. lr: the learning rate; None if the experiment file gives none.
    device: where to train.
    fields: every field and option of the trial, as plain values.

    What follows is built when it is asked for, exactly as the harness builds it for its own
    training: on the same splits, from the same random streams. A method raises InputError if the
    experiment file does not name what it needs.
    """

    seed: int
    epochs: int
    batch_size: int
    lr: float | None
    device: torch.device
    fields: Mapping[str, Any]

    @property
    @abstractmethod
    def folder(self) -> Path:
        """A folder for the loop's own checkpoints. It exists, and stays until the trial's result is
        stored."""

    @abstractmethod
    def resume(self) -> int:
        """Returns after how many epochs to go on; 0 to start from the beginning.

        A loop that calls this saves its state in `folder` before each yield, under the number of
        the epoch, and goes on from the state of the epoch that this returns. A loop that does not
        call it starts again after an interruption. It also seeds the random generators for the
        next epoch, as is done after each yield: call it once, when all is built.
        """

    @property
    @abstractmethod
    def data(self) -> DataInfo:
        """What is known of the data set."""

    @abstractmethod
    def examples(self, split: Literal["train", "val", "test"]) -> tuple[Tensor, Tensor]:
        """Returns all inputs [N, …] float32 of a split, prepared, and their targets."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the inputs and targets of each training batch of an epoch (from 1), in the order
        of the harness's own training."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Returns the trial's untrained model on its device."""

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Returns the trial's optimizer, with its learning rate, of a model's parameters."""

    @abstractmethod
    def loss(self) -> LossFunction:
        """Returns the trial's loss: `(outputs, targets)` → one value for each example."""
