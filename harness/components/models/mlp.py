"""Multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.data import DataInfo
from harness.kinds import Integers, Model, Options

if TYPE_CHECKING:
    from torch import nn


class MLPOptions(Options):
    hidden: Integers = Field((24, 24), description="units of each hidden layer")
    activation: Literal["relu", "sigmoid", "tanh", "gelu"] = Field(
        "relu", description="after each hidden layer"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="after each hidden activation")


def build(options: MLPOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    activation = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU}
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((info.features, *options.hidden)):
        layers += [nn.Linear(fan_in, fan_out), activation[options.activation]()]
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    widest = options.hidden[-1] if options.hidden else info.features
    return nn.Sequential(*layers, nn.Linear(widest, outputs))


COMPONENTS = (
    Model(
        name="mlp",
        description="multilayer perceptron: linear layers with an activation between",
        reference="Rumelhart, Hinton and Williams, Nature 323 (1986)",
        options=MLPOptions,
        tiny=({"hidden": [8]}, {"hidden": [], "activation": "tanh"}, {"dropout": 0.5}),
        build=build,
    ),
)
