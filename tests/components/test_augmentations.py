"""Augmentations: random for each image, and by the given generator alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn import functional

from harness.components.augmentations.geometric import rotated
from harness.components.augmentations.torchvision import UNIT_RANGE_ONLY, TransformOptions
from harness.components.base import Augmentation, DataInfo, Task
from harness.core.errors import InputError
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract, registered

AUGMENTATIONS = registered(Augmentation)
EVERY = [
    pytest.param(augmentation, dict(options), id=f"{augmentation.name}-{n}")
    for augmentation in AUGMENTATIONS.values()
    for n, options in enumerate(augmentation.tiny)
]


def build(name: str, **options):
    augmentation = AUGMENTATIONS[name]
    return augmentation.build(augmentation.options.model_validate(options))


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 64, channels: int = 3, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=chance(0))


@pytest.mark.parametrize(("augmentation", "options"), EVERY)
def test_keeps_the_contract(augmentation, options) -> None:
    always = "every generator gives the same" if options == {"p": 1.0} else ""
    choice = Choice(augmentation, augmentation.options.model_validate(options))
    info = DataInfo(Task.MULTICLASS, (3, 12, 10), ("a", "b"))
    assert_keeps_contract(choice, info, notes=always)


@pytest.mark.parametrize(("augmentation", "options"), EVERY)
def test_the_next_batch_is_drawn_anew(augmentation, options) -> None:
    apply = augmentation.build(augmentation.options.model_validate(options))
    stream = chance(1)
    first, second = apply(images(), stream), apply(images(), stream)
    assert torch.equal(first, second) == (options == {"p": 1.0})


def test_flip_mirrors_about_p_of_the_images() -> None:
    batch = images(400)
    flipped = build("flip", p=0.25)(batch, chance(0))
    mirrored = (flipped == batch.flip(-1)).flatten(1).all(1)
    left = (flipped == batch).flatten(1).all(1)
    assert (mirrored ^ left).all()
    assert 60 < int(mirrored.sum()) < 140  # 100 ± 4.6 standard deviations
    assert torch.equal(build("flip", p=0.0)(batch, chance(0)), batch)


@pytest.mark.parametrize("mode", ["replicate", "reflect", "constant"])
def test_crop_is_a_window_of_the_padded_image(mode) -> None:
    batch = images(200, channels=2)
    out = build("crop", padding=2, mode=mode, fill=0.5)(batch, chance(0))
    sides = [2, 2, 2, 2]
    padded = (
        functional.pad(batch, sides, value=0.5)
        if mode == "constant"
        else functional.pad(batch, sides, mode=mode)
    )
    windows = padded.unfold(2, 12, 1).unfold(3, 10, 1)  # [N, C, 5, 5, 12, 10]
    equal = (windows == out[:, :, None, None]).all(dim=(1, 4, 5))
    places = equal.nonzero()
    assert places[:, 0].tolist() == list(range(200)), "each image is one window of its own"
    assert len(places[:, 1:].unique(dim=0)) == 25, "every shift occurs"


@pytest.mark.parametrize("fill", [None, 0.25])
def test_a_quarter_turn_is_exact(fill) -> None:
    batch = images(2, height=9, width=9)
    angles = torch.tensor([torch.pi / 2, -torch.pi / 2])
    out = rotated(batch, angles, fill)
    assert torch.allclose(out[0], batch[0].rot90(1, (1, 2)), atol=1e-5)
    assert torch.allclose(out[1], batch[1].rot90(-1, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("angle", [7.0, -30.0, 120.0])
def test_rotation_is_torchvisions(angle) -> None:
    """Of an oblong image, which a turn in other units than pixels would shear."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as vision

    batch = images(3, height=8, width=14)
    expected = vision.rotate(batch, angle, InterpolationMode.BILINEAR)
    angles = torch.full((3,), angle).deg2rad()
    assert torch.allclose(rotated(batch, angles, 0.0), expected, atol=1e-4)


def test_rotation_fills_the_corners() -> None:
    ones = torch.ones(8, 1, 10, 10)
    filled = build("rotate", degrees=45.0, mode="constant", fill=-3.0)(ones, chance(0))
    assert float(filled.min()) == pytest.approx(-3, abs=1e-4)
    assert torch.allclose(build("rotate", degrees=45.0)(ones, chance(0)), ones)


def test_erase_replaces_one_rectangle() -> None:
    batch = images(300, channels=2, height=20, width=30)
    options = {"p": 0.5, "smallest": 0.1, "largest": 0.2, "aspect": 2.0, "fill": -1.0}
    out = build("erase", **options)(batch, chance(0))
    gone = out == -1
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert torch.equal(out[~gone], batch[~gone])
    erased = [mask for mask in gone[:, 0] if mask.any()]
    assert 110 < len(erased) < 190  # 150 ± 4.6 standard deviations
    for mask in erased:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        tall, wide = len(rows), len(columns)
        assert int(mask.sum()) == tall * wide, "no rectangle"
        assert (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1) == (tall, wide)
        # A side is rounded to whole pixels.
        assert (tall - 0.5) * (wide - 0.5) <= 0.2 * 600
        assert (tall + 0.5) * (wide + 0.5) >= 0.1 * 600
        assert max((tall - 0.5) / (wide + 0.5), (wide - 0.5) / (tall + 0.5)) <= 2


def test_a_rectangle_longer_than_the_image_is_cut_to_it() -> None:
    out = build("erase", p=1.0, smallest=1.0, largest=1.0, aspect=1.0)(images(3), chance(0))
    assert ((out == 0).flatten(1).float().mean(1) > 0.8).all()


def test_erase_requires_ordered_areas() -> None:
    with pytest.raises(ValueError, match=r"smallest \(0.5\) is above largest \(0.4\)"):
        build("erase", smallest=0.5, largest=0.4)


def test_noise_has_its_deviation() -> None:
    batch = images(200)
    drawn = build("noise", std=0.3)(batch, chance(0)) - batch
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.02)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)


# Transforms of torchvision


def test_a_transform_of_torchvision_is_applied_to_each_image() -> None:
    batch = images()
    out = build("torchvision", transform="RandomVerticalFlip")(batch, chance(0))
    flipped = (out == batch.flip(-2)).flatten(1).all(1)
    assert 0 < int(flipped.sum()) < 64
    assert torch.equal(out[~flipped], batch[~flipped])


def test_enumerations_are_given_by_their_value() -> None:
    batch = images(4)
    options = {"degrees": [30, 30], "interpolation": "bilinear", "fill": None}
    out = build("torchvision", transform="RandomRotation", options=options)(batch, chance(0))
    angles = torch.full((4,), 30.0).deg2rad()
    assert torch.allclose(out, rotated(batch, angles, 0.0), atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"transform": "RandomAfine"}, "did you mean 'RandomAffine'"),
        ({"transform": "RandomAffine"}, "degrees"),
        (
            {"transform": "RandomAffine", "options": {"degres": 1}},
            "no 'degres': did you mean 'degrees'",
        ),
        ({"transform": "RandomRotation", "options": {"degrees": -1}}, "must be positive"),
        (
            {"transform": "RandomRotation", "options": {"degrees": 1, "interpolation": "x"}},
            "'x' is not a valid InterpolationMode",
        ),
    ],
)
def test_torchvisions_options_are_checked_beforehand(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        TransformOptions.model_validate(wrong)


def test_an_option_at_its_default_is_left_out() -> None:
    short = {"transform": "RandomRotation", "options": {"degrees": 5}}
    long = {
        "transform": "RandomRotation",
        "options": {"degrees": 5, "interpolation": "nearest", "fill": 0},
    }
    assert TransformOptions.model_validate(short) == TransformOptions.model_validate(long)


def test_a_transform_that_changes_the_shape_is_refused() -> None:
    apply = build("torchvision", transform="CenterCrop", options={"size": 5})
    with pytest.raises(InputError, match=r"CenterCrop changes .* to \[3, 5, 5\]"):
        apply(images(), chance(0))


def test_a_colour_transform_wants_pixels_from_0_to_1() -> None:
    apply = build("torchvision", transform="ColorJitter", options={"brightness": 0.5})
    assert apply(images(), chance(0)).shape == images().shape
    with pytest.raises(InputError, match="set the dataset's mean"):
        apply(images() * 2 - 1, chance(0))


def test_transforms_that_clip_are_known() -> None:
    """Whatever treats a normalised image otherwise than the same image scaled to [0, 1]."""
    from torchvision.transforms import v2

    options: dict[str, dict[str, Any]] = {
        "ColorJitter": {"brightness": (1.5, 1.5)},
        "GaussianNoise": {},
        "RandomAdjustSharpness": {"sharpness_factor": 2, "p": 1},
        "RandomAutocontrast": {"p": 1},
        "RandomInvert": {"p": 1},
        "RandomSolarize": {"threshold": 0.5, "p": 1},
        # These are as they should be.
        "GaussianBlur": {"kernel_size": 3},
        "RandomAffine": {"degrees": (20, 20)},
        "RandomErasing": {"p": 1},
        "RandomPerspective": {"p": 1},
    }
    unit = images(1)[0]
    for name, given in options.items():
        transform = getattr(v2, name)(**given)
        torch.manual_seed(0)
        expected = transform(unit) * 4
        torch.manual_seed(0)
        commutes = torch.allclose(transform(unit * 4), expected, atol=1e-4)
        assert commutes == (name not in UNIT_RANGE_ONLY), name


def test_torchvision_is_imported_only_where_it_is_named() -> None:
    code = """
import sys
from harness.components.registry import components
for augmentation in components("augmentations").values():
    if augmentation.name != "torchvision":
        augmentation.build(augmentation.options())
print(*sorted({"torch", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
