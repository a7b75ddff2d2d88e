"""A network as a user writes it, for tests of the Python API."""

from __future__ import annotations

from torch import Tensor, nn

import harness


class Net(nn.Module):
    """A network of a test."""

    def __init__(self, data: harness.DataInfo, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(data.features, width), nn.Linear(width, data.outputs)
        )

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.layers(batch)
        return logits
