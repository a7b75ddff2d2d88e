"""What networks share: activations, initial weights, and image sizes behind convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from harness.components.base import DataInfo

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]

Padding = Literal["same", "valid"]
"""Of convolutions: "same" pads with zeros to preserve the size; "valid" does not pad."""

Init = Literal["default", "kaiming_uniform", "xavier_uniform", "kaiming_xavier"]
"""The initial weights that `initialise` draws."""

Widths = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
"""Type of an option that is a list of layer widths."""


def activation(name: Activation) -> nn.Module:
    from torch import nn

    classes: dict[Activation, type[nn.Module]] = {
        "relu": nn.ReLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
    }
    return classes[name]()


def initialise(network: nn.Module, init: Init) -> None:
    """Redraws the weights of all linear and convolutional layers, in their order.

    init:
        default: keeps torch's own draw, uniform in ±1/√fan_in.
        kaiming_uniform: He et al., ICCV 2015, with the gain of ReLU (√2), for all layers.
        xavier_uniform: Glorot and Bengio, AISTATS 2010, for all layers.
        kaiming_xavier: Kaiming for the hidden layers, which are followed by a ReLU, and Xavier for
            the output layer, which is not.

    Biases keep torch's draw.
    """
    from torch import nn

    if init == "default":
        return
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        if init == "kaiming_uniform" or (init == "kaiming_xavier" and layer is not layers[-1]):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(layer.weight)


def build_on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Builds a network on torch's meta device, which has shapes but no values.

    torch's random state is unchanged. While building, only `torch.empty`, with which layers create
    their parameters, uses the meta device, because RegNet computes its widths with tensors.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class EmptyOnMeta(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., Any],
            types: Iterable[type],
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func is torch.empty:
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with torch.random.fork_rng(devices=[]), EmptyOnMeta():
        network = build()
    return network.to("meta")


def pooled_side(side: int, kernels: tuple[int, ...], padding: Padding) -> int:
    """Returns an image's side after blocks of a convolution and a pooling by 2, in pixels."""
    for kernel in kernels:
        side = (side if padding == "same" else side - kernel + 1) // 2
    return side


def smallest_side(kernels: tuple[int, ...], padding: Padding) -> int:
    """Returns the smallest side for which `pooled_side` is at least 1."""
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
