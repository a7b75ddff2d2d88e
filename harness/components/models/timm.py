"""All image classification models of timm (PyTorch Image Models), by their names there.

timm is an optional package: `pip install timm`.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from harness.components.base import DataInfo, Model, Options, file_option
from harness.components.shared.data_files import sha256
from harness.components.shared.layers import build_on_meta
from harness.components.shared.pretrained import load_weights, local_file
from harness.core.errors import closest

if TYPE_CHECKING:
    from torch import nn


class TimmModelOptions(Options):
    arch: str = Field("resnet18", description="name in timm.list_models()")
    weights: str | None = file_option(
        None,
        "path of a state dict with initial weights; null draws them. An output layer of another "
        "size starts at random",
    )
    drop_rate: float = Field(0.0, ge=0, lt=1, description="dropout before the last layer")

    # Runs only where an option is set: listing components does not import timm.
    @field_validator("arch")
    @classmethod
    def _known_architecture(cls, arch: str) -> str:
        if find_spec("timm") is None:
            raise ValueError("timm is not installed; install it: pip install timm")
        if arch not in _architectures():
            near = closest(arch, _architectures())
            question = f"did you mean {near!r}? " if near else ""
            raise ValueError(f"timm has no {arch!r}; {question}timm.list_models() has all names")
        return arch


@cache
def _architectures() -> frozenset[str]:
    import timm

    return frozenset(timm.list_models())


def _network(options: TimmModelOptions, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Returns the architecture with random weights, [B, *shape] → [B, outputs]."""
    import timm

    channels, *size = shape
    settings: dict[str, Any] = {"in_chans": channels, "num_classes": outputs}
    if options.drop_rate:
        settings["drop_rate"] = options.drop_rate
    try:  # A transformer is built for images of one size.
        network: nn.Module = timm.create_model(options.arch, img_size=tuple(size), **settings)
    except TypeError:
        network = timm.create_model(options.arch, **settings)
    return network


@cache
def _mismatch(options: TimmModelOptions, shape: tuple[int, ...]) -> str:
    """Returns why the architecture cannot process images of this shape, or ""."""
    import torch

    try:
        network = build_on_meta(lambda: _network(options, shape, 2))
        network(torch.empty(2, *shape, device="meta"))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def accepts(options: TimmModelOptions, info: DataInfo) -> str | None:
    if find_spec("timm") is None:
        return "timm is not installed; install it: pip install timm"
    if not info.is_image:
        return f"needs images; this data set has examples of shape {list(info.shape)}"
    reason = _mismatch(options, info.shape)
    if reason:
        _, height, width = info.shape
        return f"{options.arch} cannot process images of {height}×{width} pixels: {reason}"
    return None


def fingerprint(options: TimmModelOptions) -> str:
    return sha256(local_file(options.weights)) if options.weights else ""


def build(options: TimmModelOptions, info: DataInfo, outputs: int) -> nn.Module:
    network = _network(options, info.shape, outputs)
    if options.weights:
        two, three = (
            build_on_meta(lambda n=n: _network(options, info.shape, n)).state_dict()  # type: ignore[misc]
            for n in (2, 3)
        )
        head = frozenset(name for name in two if two[name].shape != three[name].shape)
        load_weights(network, local_file(options.weights), head=head)
    return network


COMPONENTS = (
    Model(
        name="timm",
        description="any image classification model of timm, an optional package",
        reference="https://huggingface.co/docs/timm",
        options=TimmModelOptions,
        tiny=(),  # timm is optional: its models have tests of their own.
        accepts=accepts,
        fingerprint=fingerprint,
        build=build,
    ),
)
