"""Image folders of one's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin

from harness.components.base import ImageTransform, SplitRule
from harness.components.datasets import image_folder
from harness.components.shared.data_files import combined_sha256
from harness.core.errors import DataMissing, InputError
from harness.sweep import main
from tests.components.synthetic_data import (
    tensor_inputs,
    write_image,
    write_images,
)


def folder_options(path: Path, **options):
    return image_folder.ImageFolderOptions.model_validate({"path": str(path), **options})


def test_a_folder_of_classes_is_cut(tmp_path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    raw = image_folder.load(folder_options(tmp_path, stratify=True), tmp_path)
    assert raw.info.class_names == ("cat", "dog", "owl")
    assert raw.info.shape == (3, 7, 9)
    assert raw.split == SplitRule(0.2, 0, stratify=True)
    assert raw.train.targets.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    pixels = np.asarray(Image.open(tmp_path / "dog" / "1.png")).transpose(2, 0, 1)
    assert np.array_equal(raw.train.inputs[6], pixels)


def test_a_folder_may_have_its_own_test_set(tmp_path) -> None:
    write_images(tmp_path / "train")
    write_image(tmp_path / "test" / "owl" / "a.png")
    raw = image_folder.load(folder_options(tmp_path), tmp_path)
    assert raw.split is None
    assert raw.test is not None
    assert raw.test.targets.tolist() == [2]
    write_image(tmp_path / "test" / "yak" / "a.png")
    with pytest.raises(InputError, match=r"train/ lacks: \['yak'\]"):
        image_folder.load(folder_options(tmp_path), tmp_path)


def test_a_validation_folder_is_not_taken_for_a_class(tmp_path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "val")
    with pytest.raises(InputError, match="val_fraction"):
        image_folder.info(folder_options(tmp_path), tmp_path)


def test_train_may_be_a_class_among_others(tmp_path) -> None:
    for name in ("car", "train"):
        write_image(tmp_path / name / "a.png")
    assert image_folder.info(folder_options(tmp_path), tmp_path).class_names == ("car", "train")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_read_as_they_come_are_the_same(channels, tmp_path) -> None:
    write_images(tmp_path)
    options = folder_options(tmp_path, size=6, channels=channels)
    held = image_folder.load(options, tmp_path).train.inputs
    lazy = image_folder.load(options.model_copy(update={"memory_gb": 0.0}), tmp_path).train.inputs
    assert isinstance(held, torch.Tensor)
    assert not isinstance(lazy, torch.Tensor)
    lazy = pickle.loads(pickle.dumps(lazy))
    assert torch.equal(held, torch.stack([lazy[i] for i in range(len(lazy))]))
    assert held.shape == (15, channels, 6, 6)


def test_images_of_other_sizes_are_cut_about_their_middle(tmp_path) -> None:
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 200
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(stripes).save(tmp_path / name / "x.png")
    raw = image_folder.load(folder_options(tmp_path, size=4), tmp_path)
    assert (tensor_inputs(raw.train) == 200).all()


def test_images_of_several_sizes_want_one(tmp_path) -> None:
    write_images(tmp_path)
    write_image(tmp_path / "owl" / "z.png", size=(5, 5))
    with pytest.raises(InputError, match=r"z\.png has 5×5 pixels.* 9×7: set size"):
        image_folder.load(folder_options(tmp_path), tmp_path)


def test_a_photograph_is_turned_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        write_image(tmp_path / name / "x.png", size=(9, 7), exif=exif)
    raw = image_folder.load(folder_options(tmp_path), tmp_path)
    assert raw.info.shape == (3, 9, 7)
    pixels = np.rot90(np.asarray(Image.open(tmp_path / "a" / "x.png")), k=-1)
    assert np.array_equal(raw.train.inputs[0].permute(1, 2, 0), pixels)


@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_a_broken_image_is_named(memory, tmp_path) -> None:
    write_images(tmp_path)
    broken = tmp_path / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    options = folder_options(tmp_path, size=4, memory_gb=memory)
    with pytest.raises(InputError, match=r"dog/3\.png cannot be read"):
        list(map(image_folder.load(options, tmp_path).train.inputs.__getitem__, range(15)))


def test_a_folder_that_makes_no_classes_is_refused(tmp_path) -> None:
    options = folder_options(tmp_path / "pets")
    with pytest.raises(DataMissing, match="pets does not exist"):
        image_folder.info(options, tmp_path)
    write_image(tmp_path / "pets" / "cat" / "a.png")
    with pytest.raises(InputError, match="only cat/"):
        image_folder.info(options, tmp_path)
    (tmp_path / "pets" / "dog").mkdir()
    with pytest.raises(InputError, match="dog has no images"):
        image_folder.info(options, tmp_path)


# Depth, mode and orientation

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What each EXIF orientation asks for, of an array [H, W, …]."""


@dataclass(frozen=True)
class OddImage:
    """An image as a file has it, and the RGB or grey values [H, W, C] that a person sees."""

    image: Image.Image
    seen: np.ndarray
    formats: tuple[str, ...]
    is_revised: bool = False
    exact: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def _on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float)[..., None] / 255
    return np.asarray(share * colours + (1 - share) * 255)


def _grey(values: np.ndarray) -> OddImage:
    return OddImage(Image.fromarray(values), values[..., None], ("png", "tif", "bmp", "webp"))


def _colour(values: np.ndarray) -> OddImage:
    return OddImage(Image.fromarray(values), values, ("png", "tif", "bmp", "webp"))


def _bits(values: np.ndarray) -> OddImage:
    return OddImage(Image.fromarray(values > 99), (values > 99)[..., None] * 255, ("png", "bmp"))


def _sixteen_bits(values: np.ndarray) -> OddImage:
    deep = values.astype(np.uint16) * 257 // 3 + 7
    seen = deep[..., None] / 65535 * 255
    return OddImage(Image.fromarray(deep), seen, ("png", "tif", "pgm"), is_revised=True)


def _big_endian(values: np.ndarray) -> OddImage:
    deep = (values.astype(np.uint16) * 200).astype(">u2")
    return OddImage(Image.fromarray(deep), deep[..., None] / 257, ("tif",), is_revised=True)


def _white_is_zero(values: np.ndarray) -> OddImage:
    deep = values.astype(np.uint16) * 250
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    seen = (65535 - deep[..., None]) / 257
    options = {"tiffinfo": tags}
    return OddImage(Image.fromarray(deep), seen, ("tif",), is_revised=True, options=options)


def _floats(values: np.ndarray) -> OddImage:
    seen = values[..., None] / 256
    image = Image.fromarray(seen[..., 0].astype(np.float32))
    return OddImage(image, seen * 255, ("tif",), is_revised=True)


def _transparent(values: np.ndarray) -> OddImage:
    layer = np.concatenate([values, values[..., :1] // 2], axis=2)
    seen = _on_white(values, layer[..., 3])
    return OddImage(Image.fromarray(layer), seen, ("png", "tif", "webp"), True, exact=False)


def _opaque(values: np.ndarray) -> OddImage:
    layer = np.concatenate([values, np.full_like(values[..., :1], 255)], axis=2)
    return OddImage(Image.fromarray(layer), values, ("png", "tif", "webp"))


def _transparent_grey(values: np.ndarray) -> OddImage:
    layer = np.stack([values, values // 2], axis=2)
    seen = _on_white(values[..., None], layer[..., 1])
    return OddImage(Image.fromarray(layer), seen, ("png",), True, exact=False)


def _palette(values: np.ndarray) -> OddImage:
    image = Image.fromarray(values).quantize(16)
    return OddImage(image, np.asarray(image.convert("RGB")), ("png", "gif", "bmp"))


def _transparent_palette(values: np.ndarray) -> OddImage:
    image = Image.fromarray(values).quantize(16)
    index = np.asarray(image)[0, 0]
    seen = np.asarray(image.convert("RGB")).copy()
    seen[np.asarray(image) == index] = 255
    return OddImage(image, seen, ("png",), True, options={"transparency": int(index)})


def _transparent_colour(values: np.ndarray) -> OddImage:
    colour = tuple(values[0, 0].tolist())
    seen = values.copy()
    seen[(values == values[0, 0]).all(2)] = 255
    return OddImage(Image.fromarray(values), seen, ("png",), True, options={"transparency": colour})


def _cmyk(values: np.ndarray) -> OddImage:
    return OddImage(Image.fromarray(values).convert("CMYK"), values, ("tif",), exact=False)


GREY = [_grey, _bits, _sixteen_bits, _big_endian, _white_is_zero, _floats, _transparent_grey]
COLOUR = [_colour, _transparent, _opaque, _palette, _transparent_palette, _transparent_colour]
COLOUR += [_cmyk]


@given(data=st.data())
@settings(max_examples=120)
def test_any_depth_mode_and_orientation_is_read_as_it_is_seen(data, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("odd")
    make = data.draw(st.sampled_from(GREY + COLOUR))
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    shape = (height, width) if make in GREY else (height, width, 3)
    seed = data.draw(st.integers(0, 99))
    odd = make(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
    suffix = data.draw(st.sampled_from(odd.formats))
    orientation = data.draw(st.sampled_from(list(UPRIGHT)))
    channels = data.draw(st.sampled_from([1, 3]))
    options = dict(odd.options)
    if suffix in ("png", "tif", "webp") and "tiffinfo" not in options:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    else:
        orientation = 1
    if suffix == "webp":
        options["lossless"] = options["exact"] = True
    for name in ("a", "b"):
        (path / name).mkdir()
        odd.image.save(path / name / f"x.{suffix}", **options)

    raw = image_folder.load(folder_options(path, channels=channels), path)
    seen = UPRIGHT[orientation](odd.seen).astype(float)
    if seen.shape[2] == 3 and channels == 1:
        seen = (seen @ [0.299, 0.587, 0.114])[..., None]
    found = tensor_inputs(raw.train)[0].permute(1, 2, 0).numpy()
    tolerance = 0.51 if odd.exact and channels == 1 and odd.seen.shape[2] == 3 else 1e-3
    tolerance = tolerance if odd.exact else 1.6
    assert found.shape == (*seen.shape[:2], channels)
    np.testing.assert_allclose(found, np.broadcast_to(seen, found.shape), atol=tolerance)

    files = {f"{name}/x.{suffix}": path / name / f"x.{suffix}" for name in ("a", "b")}
    same_id = image_folder.fingerprint(folder_options(path), path) == combined_sha256(files)
    on_its_side = suffix == "tif" and orientation >= 5 and odd.image.mode in ("L", "RGBA", "CMYK")
    revised = odd.is_revised or on_its_side
    assert same_id == (not revised), "ids change exactly where numbers change"
    if not revised:
        with Image.open(path / "a" / f"x.{suffix}") as image:
            before = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
        assert np.array_equal(np.asarray(before).reshape(found.shape), found)


def test_a_folder_of_several_depths_keeps_the_deepest(tmp_path) -> None:
    """Fitted or not, held in memory or read when needed."""
    for name, values in (("a", np.full((6, 6), 40000, np.uint16)), ("b", np.full((6, 6), 9, "u1"))):
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "x.png")
    for size, memory in product((None, 4), (2.0, 0.0)):
        options = folder_options(tmp_path, size=size, memory_gb=memory)
        inputs = image_folder.load(options, tmp_path).train.inputs
        deep, shallow = (inputs[i].numpy() for i in range(2))
        assert deep == pytest.approx(np.full(deep.shape, 40000 / 257, np.float32))
        assert (shallow == 9).all()
        assert deep.dtype == shallow.dtype == np.float32


def test_preparing_deep_images_leaves_them_as_they_are() -> None:
    stored = torch.full((2, 1, 3, 3), 100.0)
    prepared = ImageTransform((0.5,), (0.5,))(stored)
    assert (stored == 100).all()
    assert prepared.flatten()[0] == pytest.approx((100 / 255 - 0.5) / 0.5)


# Files that are refused


def _write_refused(folder: Path) -> dict[str, str]:
    """Writes images that have no right reading. Returns the reason for each."""
    ramp = np.linspace(0, 300, 63, dtype=np.float32).reshape(7, 9)
    Image.fromarray(ramp).save(folder / "floats.tif")
    Image.fromarray(ramp * np.nan).save(folder / "nan.tif")
    Image.fromarray(ramp.astype(np.int32)).save(folder / "integers.tif")
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "value.png", transparency=3)
    Image.frombytes("LAB", (9, 7), bytes(189)).save(folder / "lab.tif")
    (folder / "text.png").write_text("no image")
    (folder / "empty.jpg").touch()
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to(folder / "absent.png")
    return {
        "floats.tif": "floats go from 0 to 300",
        "nan.tif": "floats go from nan",
        "integers.tif": "32 bits",
        "value.png": "16 bits and a transparent value",
        "lab.tif": "save it as RGB",
        "text.png": "no known format",
        "empty.jpg": "no known format",
        "folder.png": "directory",
        "link.png": "No such file",
    }


@pytest.mark.parametrize("size", [None, 4])
def test_all_refused_files_are_named_at_once(size, tmp_path) -> None:
    write_images(tmp_path)
    reasons = _write_refused(tmp_path / "cat")
    options = folder_options(tmp_path, size=size)
    for read in (image_folder.fingerprint, image_folder.load):
        with pytest.raises(InputError) as caught:
            read(options, tmp_path)
        lines = str(caught.value).splitlines()
        assert len(lines) == len(reasons)
        for name, reason in reasons.items():
            assert any(f"/{name} cannot be read" in line and reason in line for line in lines)


def test_a_first_image_that_is_refused_hides_no_other(tmp_path) -> None:
    write_images(tmp_path)
    for name in ("cat/0.png", "owl/4.png"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(InputError, match=r"cat/0\.png[^$]*owl/4\.png"):
        image_folder.info(folder_options(tmp_path), tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_a_cut_file_is_refused_before_anything_runs(suffix, part, tmp_path) -> None:
    write_images(tmp_path)
    for name in ("a", "b"):
        write_image(tmp_path / "dog" / f"{name}.{suffix}", size=(40, 30))
        whole = (tmp_path / "dog" / f"{name}.{suffix}").read_bytes()
        (tmp_path / "dog" / f"{name}.{suffix}").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match=rf"dog/a\.{suffix}[^$]*dog/b\.{suffix}"):
        image_folder.fingerprint(folder_options(tmp_path, size=4), tmp_path)


def test_all_images_of_another_size_are_named_at_once(tmp_path) -> None:
    write_images(tmp_path)
    for name in ("cat/z.png", "owl/z.png"):
        write_image(tmp_path / name, size=(7, 9))
    with pytest.raises(InputError, match=r"cat/z\.png has 7×9[^$]*owl/z\.png has 7×9"):
        image_folder.fingerprint(folder_options(tmp_path), tmp_path)


def test_a_dry_run_names_the_refused_files(workspace, capsys) -> None:
    write_images(workspace / "images")
    reasons = _write_refused(workspace / "images" / "owl")
    (workspace / "mine.yaml").write_text(
        f"trial: {{dataset: {{name: image_folder, path: {workspace}/images, size: 8}}, "
        "model: mlp, optimizer: sgd, lr: 0.1, epochs: 1}\n"
    )
    assert main(["mine.yaml", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert all(f"owl/{name}" in error for name in reasons)
    assert "Traceback" not in error


def test_a_folders_checksum_is_of_names_and_content_not_of_its_place(tmp_path) -> None:
    for place in ("one", "two"):
        write_images(tmp_path / place)

    def checksum(place: str) -> str:
        return image_folder.fingerprint(folder_options(tmp_path / place), tmp_path)

    assert checksum("one") == checksum("two")
    write_image(tmp_path / "two" / "cat" / "0.png", seed=99)
    assert checksum("one") != checksum("two")
    (tmp_path / "one" / "cat" / "0.png").rename(tmp_path / "one" / "dog" / "00.png")
    assert checksum("one") != checksum("two")
