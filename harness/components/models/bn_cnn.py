"""A small convolutional network with batch normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Model, Options
from harness.components.shared.layers import Activation, activation, image_mismatch

if TYPE_CHECKING:
    from torch import nn

KERNEL = 3


class BNCNNOptions(Options):
    first: int = Field(8, gt=0, description="channels of the first convolution")
    second: int = Field(16, gt=0, description="channels of the second convolution")
    activation: Activation = Field(
        "relu", description="after the normalisation, and after the second convolution"
    )


def accepts(options: BNCNNOptions, info: DataInfo) -> str | None:
    return image_mismatch(info, (KERNEL,), "same")


def build(options: BNCNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    depth, height, width = info.shape
    return nn.Sequential(
        # No bias, as the normalisation subtracts any constant.
        nn.Conv2d(depth, options.first, KERNEL, padding="same", bias=False),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(options.first),
        activation(options.activation),
        nn.Conv2d(options.first, options.second, KERNEL, padding="same"),
        activation(options.activation),
        nn.Flatten(),
        nn.Linear(options.second * (height // 2) * (width // 2), outputs),
    )


COMPONENTS = (
    Model(
        name="bn_cnn",
        description="conv3-8, average pooling, batch normalisation, conv3-16, linear output",
        reference="Ioffe and Szegedy, ICML 2015",
        options=BNCNNOptions,
        tiny=({"first": 2, "second": 3}, {"first": 2, "second": 3, "activation": "gelu"}),
        accepts=accepts,
        build=build,
        channels_last=True,
    ),
)
