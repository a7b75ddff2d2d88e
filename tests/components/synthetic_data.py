"""Small data sets in the true formats, for tests."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness.components.base import Examples
from harness.components.datasets import cifar10
from harness.components.datasets.mnist import FILES

FAMILY = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist", "KMNIST": "kmnist"}


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def write_family(root: Path, folder: str, train: int = 40, test: int = 20) -> None:
    chance = np.random.default_rng(len(folder))
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for n, images, labels in ((train, FILES[0], FILES[1]), (test, FILES[2], FILES[3])):
        pixels = chance.integers(256, size=(n, 28, 28), dtype=np.uint8)
        (raw / images).write_bytes(idx_bytes(pixels))
        (raw / labels).write_bytes(idx_bytes(chance.integers(10, size=n, dtype=np.uint8)))


def write_cifar10(root: Path, each: int = 12) -> None:
    chance = np.random.default_rng(0)
    (root / cifar10.FOLDER).mkdir(parents=True)
    for name in (*cifar10.TRAIN, *cifar10.TEST):
        batch = {
            "batch_label": name,
            "labels": chance.integers(10, size=each).tolist(),
            "data": chance.integers(256, size=(each, 3072), dtype=np.uint8),
            "filenames": [f"{n}.png" for n in range(each)],
        }
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": list(cifar10.CLASSES)}
    (root / cifar10.FOLDER / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_image(path: Path, size: tuple[int, int] = (9, 7), seed: int = 0, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    pixels = chance.integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def write_images(folder: Path, each: int = 5) -> None:
    for number, name in enumerate(("cat", "dog", "owl")):
        for n in range(each):
            write_image(folder / name / f"{n}.png", seed=10 * number + n)


def write_all(root: Path) -> Path:
    for folder in FAMILY:
        write_family(root, folder)
    write_cifar10(root)
    write_images(root / "images")
    return root


class Evil:
    """Unpickled by a trusting reader, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def tensor_inputs(examples: Examples | None) -> torch.Tensor:
    """The inputs of examples that are in memory."""
    assert examples is not None
    assert isinstance(examples.inputs, torch.Tensor)
    return examples.inputs
