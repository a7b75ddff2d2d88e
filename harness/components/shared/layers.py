"""What networks share: activations, initial weights, and networks without values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, PositiveInt

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]

Init = Literal["default", "kaiming_uniform", "xavier_uniform", "kaiming_xavier"]
"""The initial weights that `initialise` draws."""

INIT: Final = "initial weights; kaiming_xavier: Kaiming's, Xavier's for the output layer"
"""The description of an option of type `Init`."""

Widths = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
"""Type of an option that is a list of layer widths."""


def activation(name: Activation) -> nn.Module:
    from torch import nn

    classes = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU}
    module: nn.Module = classes[name]()
    return module


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
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            on_meta = {"device": "meta"} if func is torch.empty else {}
            return func(*args, **{**(kwargs or {}), **on_meta})

    with torch.random.fork_rng(devices=[]), EmptyOnMeta():
        network = build()
    return network.to("meta")
