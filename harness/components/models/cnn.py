"""A convolutional network: blocks of convolution and pooling, a hidden layer, the output layer."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Model, Options
from harness.components.shared.layers import (
    Activation,
    Init,
    Padding,
    Widths,
    activation,
    image_mismatch,
    initialise,
    pooled_side,
)

if TYPE_CHECKING:
    from torch import nn

KERNEL = 3


class CNNOptions(Options):
    channels: Widths = Field(
        (32, 32),
        min_length=1,
        description="channels of each 3×3 convolution, which is followed by pooling by 2",
    )
    hidden: int = Field(100, gt=0, description="units of the hidden layer")
    activation: Activation = Field("relu", description="after each layer except the output")
    padding: Padding = Field(
        "same", description="of the convolutions; valid does not pad and needs larger images"
    )
    init: Init = Field(
        "default",
        description="initial weights; kaiming_xavier: Kaiming's, Xavier's for the output layer",
    )

    @property
    def kernels(self) -> tuple[int, ...]:
        return (KERNEL,) * len(self.channels)


def accepts(options: CNNOptions, info: DataInfo) -> str | None:
    return image_mismatch(info, options.kernels, options.padding)


def build(options: CNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    depth, height, width = info.shape
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((depth, *options.channels)):
        layers += [
            nn.Conv2d(fan_in, fan_out, KERNEL, padding=options.padding),
            activation(options.activation),
            nn.MaxPool2d(2),
        ]
    area = pooled_side(height, options.kernels, options.padding) * pooled_side(
        width, options.kernels, options.padding
    )
    network = nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(options.channels[-1] * area, options.hidden),
        activation(options.activation),
        nn.Linear(options.hidden, outputs),
    )
    initialise(network, options.init)
    return network


COMPONENTS = (
    Model(
        name="cnn",
        description="conv3-32, max pooling, conv3-32, max pooling, 100 hidden units, linear output",
        reference="LeCun et al., Proceedings of the IEEE 86 (1998)",
        options=CNNOptions,
        tiny=(
            {"channels": [4], "hidden": 8},
            {"channels": [4, 4], "hidden": 8, "padding": "valid", "init": "kaiming_xavier"},
            {"channels": [4, 4], "hidden": 8, "activation": "tanh", "init": "xavier_uniform"},
            {"channels": [4], "hidden": 8, "init": "kaiming_uniform"},
        ),
        accepts=accepts,
        build=build,
        channels_last=True,
    ),
)
