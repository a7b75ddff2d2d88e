"""Image folders of one's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.components.base import SplitRule
from harness.components.datasets import image_folder
from harness.core.errors import DataMissing, InputError
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
    assert raw.info.classes == ("cat", "dog", "owl")
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
    assert image_folder.info(folder_options(tmp_path), tmp_path).classes == ("car", "train")


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
