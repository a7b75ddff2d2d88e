"""Rosenblatt's perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components.base import DataInfo, Model, Options

if TYPE_CHECKING:
    from torch import nn


class PerceptronOptions(Options):
    init: Literal["uniform", "zeros"] = Field(
        "uniform",
        description="initial weights: uniform in ±1/√features (torch), or zeros (scikit-learn)",
    )


def build(options: PerceptronOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    linear = nn.Linear(info.features, outputs)
    if options.init == "zeros":
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear)


COMPONENTS = (
    Model(
        name="perceptron",
        description="one linear layer; with the perceptron loss, Rosenblatt's perceptron",
        reference="Rosenblatt, Psychological Review 65 (1958)",
        options=PerceptronOptions,
        tiny=({}, {"init": "zeros"}),
        build=build,
    ),
)
