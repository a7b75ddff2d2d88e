"""Small convolutional networks: plain, with batch normalisation, and with dropout."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from harness.components.base import DataInfo, Model, Options
from harness.components.shared.layers import INIT, Activation, Init, Widths, activation, initialise

if TYPE_CHECKING:
    from torch import nn

Padding = Literal["same", "valid"]
"""Of convolutions: "same" pads with zeros to preserve the size; "valid" does not pad."""

DROPOUT_KERNELS: Final = (5, 5)


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
    init: Init = Field("default", description=INIT)

    @property
    def kernels(self) -> tuple[int, ...]:
        return (3,) * len(self.channels)


class BNCNNOptions(Options):
    first: int = Field(8, gt=0, description="channels of the first convolution")
    second: int = Field(16, gt=0, description="channels of the second convolution")
    activation: Activation = Field(
        "relu", description="after the normalisation, and after the second convolution"
    )


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


def build_cnn(options: CNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((info.shape[0], *options.channels)):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, padding=options.padding),
            activation(options.activation),
            nn.MaxPool2d(2),
        ]
    area = pooled_area(info, options.kernels, options.padding)
    network = nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(options.channels[-1] * area, options.hidden),
        activation(options.activation),
        nn.Linear(options.hidden, outputs),
    )
    initialise(network, options.init)
    return network


def build_bn_cnn(options: BNCNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(
        # No bias, as the normalisation subtracts any constant.
        nn.Conv2d(info.shape[0], options.first, 3, padding="same", bias=False),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(options.first),
        activation(options.activation),
        nn.Conv2d(options.first, options.second, 3, padding="same"),
        activation(options.activation),
        nn.Flatten(),
        nn.Linear(options.second * pooled_area(info, (3,), "same"), outputs),
    )


def build_dropout_cnn(options: DropoutCNNOptions, info: DataInfo, outputs: int) -> nn.Module:
    """The network of PyTorch's MNIST example."""
    from torch import nn

    area = pooled_area(info, DROPOUT_KERNELS, options.padding)
    return nn.Sequential(
        nn.Conv2d(info.shape[0], options.first, DROPOUT_KERNELS[0], padding=options.padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(options.first, options.second, DROPOUT_KERNELS[1], padding=options.padding),
        nn.Dropout2d(options.dropout),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(options.second * area, options.hidden),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden, outputs),
    )


def pooled_area(info: DataInfo, kernels: tuple[int, ...], padding: Padding) -> int:
    """Returns the pixels of a channel after blocks of a convolution and a pooling by 2."""
    sides = info.shape[1:]
    for kernel in kernels:
        sides = tuple((side if padding == "same" else side - kernel + 1) // 2 for side in sides)
    return prod(sides)


def smallest_side(kernels: tuple[int, ...], padding: Padding) -> int:
    """Returns the smallest side of an image of which such blocks leave at least one pixel."""
    side = 1
    for kernel in reversed(kernels):
        side = 2 * side + (0 if padding == "same" else kernel - 1)
    return side


def image_mismatch(info: DataInfo, kernels: tuple[int, ...], padding: Padding) -> str | None:
    """Returns why a data set does not fit blocks of a convolution and a pooling by 2, or None."""
    if not info.is_image:
        return f"needs images; this data set has examples of shape {list(info.shape)}"
    smallest = smallest_side(kernels, padding)
    _, height, width = info.shape
    if min(height, width) >= smallest:
        return None
    reason = (
        f"needs images of at least {smallest}×{smallest} pixels; this data set has {height}×{width}"
    )
    if padding == "valid" and min(height, width) >= smallest_side(kernels, "same"):
        reason += " (they fit with padding: same)"
    return reason


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
        accepts=lambda options, info: image_mismatch(info, options.kernels, options.padding),
        build=build_cnn,
        channels_last=True,
    ),
    Model(
        name="bn_cnn",
        description="conv3-8, average pooling, batch normalisation, conv3-16, linear output",
        reference="Ioffe and Szegedy, ICML 2015",
        options=BNCNNOptions,
        tiny=({"first": 2, "second": 3}, {"first": 2, "second": 3, "activation": "gelu"}),
        accepts=lambda _options, info: image_mismatch(info, (3,), "same"),
        build=build_bn_cnn,
        channels_last=True,
    ),
    Model(
        name="dropout_cnn",
        description="conv5-10, pooling, conv5-20, dropout2d, pooling, 50 units, dropout, output",
        reference="https://github.com/pytorch/examples (mnist); Tompson et al., CVPR 2015",
        options=DropoutCNNOptions,
        tiny=(
            {"first": 3, "second": 4, "hidden": 8},
            {"first": 3, "second": 4, "hidden": 8, "padding": "same", "dropout": 0.0},
        ),
        accepts=lambda options, info: image_mismatch(info, DROPOUT_KERNELS, options.padding),
        build=build_dropout_cnn,
        channels_last=True,
    ),
)
