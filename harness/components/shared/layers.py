"""What several networks share: activations, initial weights, and the sizes of images on their way
through convolutions. Torch is imported only inside functions, as in the components."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from harness.components.base import DataInfo

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]

Padding = Literal["same", "valid"]
"""Of convolutions: "same" pads with zeros so that the size stays; "valid" pads nothing."""

Init = Literal["default", "kaiming_uniform", "xavier_uniform", "kaiming_xavier"]
"""How `initialise` draws weights."""

Widths = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
"""A list of layer widths in an options class."""


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
    """Draws the weights of every linear and convolutional layer anew, in their order.

    default: leaves torch's own draw, uniform in ±1/√fan_in.
    kaiming_uniform: He et al., ICCV 2015, with the gain of ReLU (√2), on every layer.
    xavier_uniform: Glorot and Bengio, AISTATS 2010, on every layer.
    kaiming_xavier: Kaiming uniform on the hidden layers, whose outputs are rectified, and Xavier
        uniform on the output layer, whose are not.
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


def skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, without values: on torch's meta device, which computes shapes alone.

    Leaves torch's random state as it was. Only `torch.empty`, which layers call for their
    parameters, is sent to that device while building: RegNet computes its widths with tensors.
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
    """Pixels left of an image's side after blocks of a convolution and a pooling by 2."""
    for kernel in kernels:
        side = (side if padding == "same" else side - kernel + 1) // 2
    return side


def least_side(kernels: tuple[int, ...], padding: Padding) -> int:
    """The smallest side of which `pooled_side` leaves a pixel."""
    side = 1
    for kernel in reversed(kernels):
        side = 2 * side + (0 if padding == "same" else kernel - 1)
    return side


def image_refusal(info: DataInfo, kernels: tuple[int, ...], padding: Padding) -> str | None:
    """Why data cannot go through blocks of a convolution and a pooling by 2, or None."""
    if not info.is_image:
        return f"needs images; this data set has examples of shape {list(info.shape)}"
    least = least_side(kernels, padding)
    _, height, width = info.shape
    if min(height, width) >= least:
        return None
    reason = (
        f"needs images of at least {least}×{least} pixels; this data set's are {height}×{width}"
    )
    if padding == "valid" and min(height, width) >= least_side(kernels, "same"):
        reason += " (padding: same takes them)"
    return reason
