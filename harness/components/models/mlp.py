"""Perceptrons: the multilayer perceptron, and Rosenblatt's, which has one layer."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components.base import DataInfo, Model, Options
from harness.components.shared.layers import INIT, Activation, Init, Widths, activation, initialise

if TYPE_CHECKING:
    from torch import nn


class MLPOptions(Options):
    hidden: Widths = Field((24, 24), description="units of each hidden layer")
    activation: Activation = Field("relu", description="after each hidden layer")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout probability after each hidden layer"
    )
    init: Init = Field("default", description=INIT)


class PerceptronOptions(Options):
    init: Literal["uniform", "zeros"] = Field(
        "uniform",
        description="initial weights: uniform in ±1/√features (torch), or zeros (scikit-learn)",
    )


def build_mlp(options: MLPOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    widths = (info.features, *options.hidden)
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation(options.activation)]
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    network = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
    initialise(network, options.init)
    return network


def build_perceptron(options: PerceptronOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    linear = nn.Linear(info.features, outputs)
    if options.init == "zeros":
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear)


COMPONENTS = (
    Model(
        name="mlp",
        description="multilayer perceptron: linear layers with activations between them",
        reference="Rumelhart, Hinton and Williams, Nature 323 (1986)",
        options=MLPOptions,
        tiny=(
            {"hidden": [8]},
            {"hidden": []},
            {"hidden": [8, 8], "activation": "sigmoid", "init": "xavier_uniform"},
            {"hidden": [8], "activation": "tanh", "init": "kaiming_xavier"},
            {"hidden": [8], "activation": "gelu", "init": "kaiming_uniform"},
            {"dropout": 0.5},
        ),
        build=build_mlp,
    ),
    Model(
        name="perceptron",
        description="one linear layer; with the perceptron loss, Rosenblatt's perceptron",
        reference="Rosenblatt, Psychological Review 65 (1958)",
        options=PerceptronOptions,
        tiny=({}, {"init": "zeros"}),
        build=build_perceptron,
    ),
)
