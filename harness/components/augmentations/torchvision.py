"""Any transform of `torchvision.transforms.v2`, by the name of its class.

It runs image by image on the CPU. It is slower than the other augmentations, and the same on every
device.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import Field, ValidationInfo, field_validator

from harness.components.base import Augmentation, AugmentationFunction, Options
from harness.core.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNIT_RANGE_ONLY: Final = frozenset(
    {
        "AugMix",
        "AutoAugment",
        "ColorJitter",
        "GaussianNoise",
        "RandAugment",
        "RandomAdjustSharpness",
        "RandomAutocontrast",
        "RandomEqualize",
        "RandomInvert",
        "RandomPhotometricDistort",
        "RandomPosterize",
        "RandomSolarize",
        "TrivialAugmentWide",
    }
)
"""Transforms that expect 0 for black and 1 for white, and clip other values."""


class TransformOptions(Options):
    """Validating these options imports torchvision."""

    transform: str = Field("RandomHorizontalFlip", description="name of the class")
    options: Mapping[str, Any] = Field(
        {},
        validate_default=True,
        description="its arguments; members of an enumeration by their value",
    )

    @field_validator("transform")
    @classmethod
    def _exists(cls, name: str) -> str:
        if name not in _classes():
            raise ValueError(
                f"torchvision.transforms.v2 has no {name!r}: {did_you_mean(name, _classes())}"
            )
        return name

    @field_validator("options")
    @classmethod
    def _accepted(cls, arguments: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        """Drops arguments that equal the default, so that a trial's id does not depend on them."""
        name = info.data.get("transform")
        if name is None:
            return arguments
        allowed = _parameters(name)
        for option in arguments:
            if option not in allowed:
                raise ValueError(f"{name} has no {option!r}: {did_you_mean(option, allowed)}")
        try:
            _transform(name, arguments)
        except Exception as error:  # The checks of the class can raise anything.
            raise ValueError(f"{name}: {error}") from error
        return {
            key: value
            for key, value in arguments.items()
            if value != _as_in_file(allowed[key].default)
        }


def build(options: TransformOptions) -> AugmentationFunction:
    transform = _transform(options.transform, options.options)

    def apply(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        images = batch.cpu()
        if options.transform in UNIT_RANGE_ONLY:
            low, high = float(images.min()), float(images.max())
            if low < 0 or high > 1:
                raise InputError(
                    f"augment torchvision: {options.transform} expects pixels from 0 to 1; these "
                    f"are from {low:.3g} to {high:.3g}: set the dataset's mean to [0] and its std "
                    f"to [1]"
                )
        seed = torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device)
        # Transforms draw from the global generator, whose state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            changed = [transform(image) for image in images]
        for image in changed:
            if image.shape != images.shape[1:] or image.dtype != images.dtype:
                raise InputError(
                    f"augment torchvision: {options.transform} changes "
                    f"{list(images.shape[1:])} {images.dtype} to {list(image.shape)} {image.dtype}"
                )
        return torch.stack(changed).to(batch.device)

    return apply


@cache
def _classes() -> Mapping[str, type]:
    from torchvision.transforms import v2

    return {
        name: cls
        for name, cls in vars(v2).items()
        if inspect.isclass(cls) and issubclass(cls, v2.Transform) and cls is not v2.Transform
    }


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_classes()[name]).parameters


def _transform(name: str, arguments: Mapping[str, Any]) -> Any:
    """Builds the transform."""
    parameters = _parameters(name)
    converted = {
        key: _member(parameters[key].annotation, value) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    return _classes()[name](**converted)


def _member(annotation: Any, value: str) -> Any:
    """Returns the member of an enumeration with this value; other arguments are unchanged."""
    for kind in get_args(annotation) or (annotation,):
        if inspect.isclass(kind) and issubclass(kind, Enum):
            return kind(value)
    return value


def _as_in_file(default: Any) -> Any:
    """Returns a default as an experiment file would write it."""
    if isinstance(default, Enum):
        return default.value
    return list(default) if isinstance(default, tuple) else default


COMPONENTS = (
    Augmentation(
        name="torchvision",
        description="any transform of torchvision.transforms.v2, image by image",
        reference="https://docs.pytorch.org/vision/stable/transforms.html",
        options=TransformOptions,
        tiny=(
            {},
            {"transform": "RandomAffine", "options": {"degrees": 20, "interpolation": "bilinear"}},
        ),
        build=build,
    ),
)
