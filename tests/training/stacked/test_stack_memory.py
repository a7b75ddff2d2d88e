"""The memory of a trial in a stack: the same for a module as for the layers it consists of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.training.resources import STEPS
from harness.training.stacked.stack import Stack
from tests.training.stacked.test_stacked_modules import trial_of

WIDTH = 256
HIDDEN = 4


def layers() -> nn.Sequential:
    """Wide layers, so that tensors saved for backward take most of the memory."""
    first = [nn.Flatten(), nn.Linear(64, WIDTH)]
    for _ in range(HIDDEN):
        first += [nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH)]
    return nn.Sequential(*first, nn.Linear(WIDTH, 10))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def test_what_a_module_saves_for_backward_is_counted(data_root: Path) -> None:
    cpu = torch.device("cpu")

    def measured(build: Callable[[], nn.Module], batch: int) -> int:
        trial = trial_of(build, batch_size=batch)
        return Stack([("a", trial), ("b", trial)], data_root, cpu).bytes_per_trial()

    by_hand = measured(layers, 1024) - measured(layers, 512)
    own = measured(Own, 1024) - measured(Own, 512)
    numbers = 512 * WIDTH * HIDDEN
    assert by_hand > STEPS * numbers * 4 * 3, "inputs of three layers each, in four bytes a number"
    assert 0.8 * by_hand < own < 1.6 * by_hand
