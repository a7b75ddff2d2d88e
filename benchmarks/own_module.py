"""A module like users' own, with dropout and batch normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from harness.experiment.trial import Choice, Trial

WIDTH = 64


class Residual(nn.Module):
    """Maps [B, features] to [B, outputs], by two layers with a residual connection."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(2))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(functional.relu(self.norms[0](self.first(x.flatten(1)))))
        x = x + self.dropout(functional.relu(self.norms[1](self.second(x))))
        out: Tensor = self.head(x)
        return out


def build(_: Any, info: Any, outputs: int) -> nn.Module:
    return Residual(info.features, outputs)


def with_own_module(trial: Trial) -> Trial:
    """Returns the trial with this module as its model."""
    component = replace(trial.model.component, name="residual", build=build)
    return replace(trial, model=Choice(component, trial.model.options))
