"""All classification models of torchvision, by their names there."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import Field, ValidationInfo, field_validator

from harness.components.base import DataInfo, Model, Options, file_option
from harness.components.shared.data_files import sha256
from harness.components.shared.layers import build_on_meta
from harness.components.shared.pretrained import cached_file, load_weights, local_file
from harness.core.errors import did_you_mean

if TYPE_CHECKING:
    from torch import nn

DROPOUT_NAMES = ("dropout", "drop_rate")
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


class TorchvisionModelOptions(Options):
    """A single image channel is always repeated to three."""

    arch: str = Field("resnet18", description="name in torchvision.models.list_models()")
    weights: str | None = file_option(
        None,
        "initial weights: torchvision's name (IMAGENET1K_V1, DEFAULT), downloaded once, or a path "
        "of a state dict; null draws them. An output layer of another size starts at random",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="replaces the architecture's dropout probability; null keeps it",
    )
    resize: int | Literal["auto"] | None = Field(
        "auto",
        description="side in pixels that the model resizes images to; auto: enlarge images smaller "
        "than torchvision's minimum for the architecture, and resize all images for a vision "
        "transformer, which has one size; null: do not resize",
    )

    # Validators run only for options that are set: listing components does not import torchvision.
    @field_validator("arch")
    @classmethod
    def _known_architecture(cls, arch: str) -> str:
        if arch not in _architectures():
            raise ValueError(f"torchvision has no {arch!r}; {did_you_mean(arch, _architectures())}")
        return arch

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, weights: str | None, fields: ValidationInfo) -> str | None:
        arch = fields.data.get("arch")  # Absent if it is invalid.
        if weights is not None and arch and not _is_path(weights) and weights not in _weights(arch):
            raise ValueError(
                f"torchvision has no {weights!r} for {arch} (a path has a slash, or ends in .pt "
                f"or .pth); {did_you_mean(weights, _weights(arch))}"
            )
        return weights

    @field_validator("dropout")
    @classmethod
    def _has_dropout(cls, dropout: float | None, fields: ValidationInfo) -> float | None:
        arch = fields.data.get("arch")
        if dropout is not None and arch and _dropout_name(arch) is None:
            raise ValueError(f"{arch} has no dropout")
        return dropout

    @field_validator("resize")
    @classmethod
    def _positive(cls, resize: int | str | None) -> int | str | None:
        if isinstance(resize, int) and resize < 1:
            raise ValueError("should be 1 pixel or more")
        return resize


@cache
def _architectures() -> frozenset[str]:
    from torchvision import models

    return frozenset(models.list_models(module=models))


@cache
def _weights(arch: str) -> dict[str, Any]:
    from torchvision import models

    return dict(models.get_model_weights(arch).__members__)


def _is_path(weights: str) -> bool:
    return "/" in weights or weights.endswith((".pt", ".pth"))


@cache
def _dropout_name(arch: str) -> str | None:
    """Returns the name of the architecture's dropout parameter, or None.

    It is read from the class, as some builders ignore unknown keywords.
    """
    import inspect

    from torchvision import models

    network = get_type_hints(models.get_model_builder(arch))["return"]
    parameters = inspect.signature(network).parameters
    return next((name for name in DROPOUT_NAMES if name in parameters), None)


def _file(options: TorchvisionModelOptions) -> Path | None:
    if options.weights is None:
        return None
    if _is_path(options.weights):
        return local_file(options.weights)
    return cached_file(_weights(options.arch)[options.weights].url)


def fingerprint(options: TorchvisionModelOptions) -> str:
    file = _file(options)
    return sha256(file) if file else ""


def _input_size(options: TorchvisionModelOptions, info: DataInfo) -> tuple[int, int]:
    """Returns the (height, width) of the images that reach the architecture."""
    _, height, width = info.shape
    if options.resize is None:
        return height, width
    if options.resize != "auto":
        return options.resize, options.resize
    published = _weights(options.arch)
    if options.weights in published:
        published = {options.weights: published[options.weights]}
    smallest: int = min(weights.meta["min_size"][0] for weights in published.values())
    if options.arch.startswith(("vit_", "maxvit_")):
        return smallest, smallest
    scale = max(1.0, smallest / min(height, width))
    return round(height * scale), round(width * scale)


def _network(options: TorchvisionModelOptions, size: tuple[int, int], outputs: int) -> nn.Module:
    """Returns the architecture with random weights, [B, 3, *size] → [B, outputs]."""
    from torchvision import models

    settings: dict[str, Any] = {"num_classes": outputs}
    if options.dropout is not None:
        settings[str(_dropout_name(options.arch))] = options.dropout
    if options.arch.startswith("vit_"):
        settings["image_size"] = size[0]
    if options.arch.startswith("maxvit_"):
        settings["input_size"] = size
    if options.arch in WITH_AUXILIARY_HEADS:
        settings |= {"aux_logits": False, "init_weights": True}
        # As in torchvision: its weights for these two were trained with another normalisation than
        # ImageNet's, and the network converts it. The same holds for a user's file, because the
        # same content is the same trial.
        settings["transform_input"] = options.weights is not None
    network: nn.Module = models.get_model(options.arch, weights=None, **settings)
    return network


@cache
def _size_mismatch(options: TorchvisionModelOptions, size: tuple[int, int]) -> str:
    """Returns why the architecture cannot process images of this size, or ""."""
    import torch

    try:
        network = build_on_meta(lambda: _network(options, size, 2))
        network(torch.empty(2, 3, *size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def accepts(options: TorchvisionModelOptions, info: DataInfo) -> str | None:
    if not info.is_image:
        return f"needs images; this data set has examples of shape {list(info.shape)}"
    if info.shape[0] not in (1, 3):
        return f"needs images with 1 or 3 channels; this data set has {info.shape[0]}"
    if options.resize == "auto":
        return None
    height, width = _input_size(options, info)
    reason = _size_mismatch(options, (height, width))
    if reason:
        return f"{options.arch} cannot process images of {height}×{width} pixels: {reason}"
    return None


def build(options: TorchvisionModelOptions, info: DataInfo, outputs: int) -> nn.Module:
    from torch import nn
    from torchvision.transforms import Resize, v2

    size = _input_size(options, info)
    network = _network(options, size, outputs)
    file = _file(options)
    if file:
        load_weights(network, file, head=_head(options, size))
    front: OrderedDict[str, nn.Module] = OrderedDict()
    if size != info.shape[1:]:
        # v2.Resize does not run under torch.func.vmap, which stacked training uses.
        front["resize"] = Resize(list(size), antialias=True)
    if info.shape[0] == 1:
        front["repeat"] = v2.RGB()
    return nn.Sequential(OrderedDict(**front, network=network)) if front else network


def _head(options: TorchvisionModelOptions, size: tuple[int, int]) -> frozenset[str]:
    """Returns the names of the entries whose shapes depend on the number of outputs."""
    two = build_on_meta(lambda: _network(options, size, 2)).state_dict()
    three = build_on_meta(lambda: _network(options, size, 3)).state_dict()
    return frozenset(name for name in two if two[name].shape != three[name].shape)


COMPONENTS = (
    Model(
        name="torchvision",
        description="any classification model of torchvision, with or without its weights",
        reference="https://docs.pytorch.org/vision/stable/models.html",
        options=TorchvisionModelOptions,
        tiny=(
            {"arch": "squeezenet1_1", "dropout": 0.1},
            {"arch": "shufflenet_v2_x0_5", "resize": 32},
            {"arch": "mobilenet_v3_small", "resize": None},
        ),
        accepts=accepts,
        fingerprint=fingerprint,
        build=build,
    ),
)
