"""The CNN of PyTorch's MNIST example: two convolutions and two linear layers, with dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Model, Options
from harness.components.shared.layers import Padding, image_mismatch, pooled_side

if TYPE_CHECKING:
    from torch import nn

KERNELS = (5, 5)


class DropoutCNNOptions(Options):
    first: int = Field(10, gt=0, description="channels of the first convolution")
    second: int = Field(20, gt=0, description="channels of the second convolution")
    hidden: int = Field(50, gt=0, description="units of the hidden layer")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="probability, for whole channels and for hidden units"
    )
    padding: Padding = Field(
        "valid", description="of the convolutions; same fits images smaller than 16×16"
    )


def accepts(options: DropoutCNNOptions, info: DataInfo) -> str | None:
    return image_mismatch(info, KERNELS, options.padding)


def build(options: DropoutCNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    depth, height, width = info.shape
    area = pooled_side(height, KERNELS, options.padding) * pooled_side(
        width, KERNELS, options.padding
    )
    return nn.Sequential(
        nn.Conv2d(depth, options.first, KERNELS[0], padding=options.padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(options.first, options.second, KERNELS[1], padding=options.padding),
        nn.Dropout2d(options.dropout),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(options.second * area, options.hidden),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden, outputs),
    )


COMPONENTS = (
    Model(
        name="dropout_cnn",
        description="conv5-10, pooling, conv5-20, dropout2d, pooling, 50 units, dropout, output",
        reference="https://github.com/pytorch/examples (mnist); Tompson et al., CVPR 2015",
        options=DropoutCNNOptions,
        tiny=(
            {"first": 3, "second": 4, "hidden": 8},
            {"first": 3, "second": 4, "hidden": 8, "padding": "same", "dropout": 0.0},
        ),
        accepts=accepts,
        build=build,
        channels_last=True,
    ),
)
