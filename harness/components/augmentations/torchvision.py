"""Any transform of `torchvision.transforms.v2`, by its class's name.

It runs image by image, and on the CPU: slower than the other augmentations, and the same on every
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

WANT_UNIT_RANGE: Final = frozenset(
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
"""Transforms that take 0 for black and 1 for white, and clip what lies beyond."""


class TorchvisionOptions(Options):
    """torchvision is imported to check the options, as soon as this augmentation is named."""

    transform: str = Field("RandomHorizontalFlip", description="the class's name")
    options: Mapping[str, Any] = Field(
        {}, validate_default=True, description="its arguments; enumerations by their value"
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
    def _accepted(cls, given: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        """Without what is the default anyway, so that a trial's id does not depend on it."""
        name = info.data.get("transform")
        if name is None:
            return given
        allowed = _parameters(name)
        for option in given:
            if option not in allowed:
                raise ValueError(f"{name} has no {option!r}: {did_you_mean(option, allowed)}")
        try:
            _transform(name, given)
        except Exception as error:  # whatever the class's own checks raise
            raise ValueError(f"{name}: {error}") from error
        return {key: value for key, value in given.items() if value != _plain(allowed[key].default)}


def build(options: TorchvisionOptions) -> AugmentationFunction:
    transform = _transform(options.transform, options.options)

    def apply(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        images = batch.cpu()
        if options.transform in WANT_UNIT_RANGE:
            _check_range(images, options.transform)
        seed = torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device)
        # Transforms draw from the global generator, which is put back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            changed = [transform(image) for image in images]
        for image in changed:
            if image.shape != images.shape[1:] or image.dtype != images.dtype:
                raise InputError(
                    f"augment torchvision: {options.transform} makes {list(image.shape)} "
                    f"{image.dtype} of {list(images.shape[1:])} {images.dtype}"
                )
        return torch.stack(changed).to(batch.device)

    return apply


def _check_range(images: Tensor, name: str) -> None:
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"augment torchvision: {name} takes pixels from 0 to 1 and these go from {low:.3g} to "
            f"{high:.3g}: set the dataset's mean to [0] and its std to [1]"
        )


@cache
def _classes() -> Mapping[str, type]:
    from torchvision.transforms import v2

    return {
        name: found
        for name, found in vars(v2).items()
        if inspect.isclass(found) and issubclass(found, v2.Transform) and found is not v2.Transform
    }


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_classes()[name]).parameters


def _transform(name: str, given: Mapping[str, Any]) -> Any:
    """The transform. An enumeration's member is found by its value."""
    parameters = _parameters(name)
    arguments = {
        key: _member(parameters[key].annotation, value) if isinstance(value, str) else value
        for key, value in given.items()
    }
    return _classes()[name](**arguments)


def _member(annotation: Any, value: str) -> Any:
    for kind in get_args(annotation) or (annotation,):
        if inspect.isclass(kind) and issubclass(kind, Enum):
            return kind(value)
    return value


def _plain(default: Any) -> Any:
    """A default as an experiment file would give it."""
    if isinstance(default, Enum):
        return default.value
    return list(default) if isinstance(default, tuple) else default


COMPONENTS = (
    Augmentation(
        name="torchvision",
        description="any transform of torchvision.transforms.v2, image by image",
        reference="https://docs.pytorch.org/vision/stable/transforms.html",
        options=TorchvisionOptions,
        tiny=(
            {},
            {"transform": "RandomAffine", "options": {"degrees": 20, "interpolation": "bilinear"}},
        ),
        build=build,
    ),
)
