"""Files of the user's own as a model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.components.base import RawData
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

TABLES = (".csv",)


@dataclass(frozen=True, slots=True)
class Given:
    """What was read. names: of each example, "photo.png" or "rows.csv:2" (the line).

    inputs: [N, …], as the data set stores its own.
    """

    names: tuple[str, ...]
    inputs: Tensor


def read(paths: Sequence[Path], raw: RawData) -> Given:
    """Images where the model takes images, else tables of its features.

    Raises InputError with every file that cannot be read.
    """
    import torch

    problems: list[Problem] = []
    names: list[str] = []
    parts: list[Tensor] = []
    for path in paths:
        try:
            found = _image(path, raw) if raw.info.is_image else _table(path, raw)
        except InputError as error:
            problems += error.problems
        else:
            names += found.names
            parts.append(found.inputs)
    if problems:
        raise InputError(problems)
    return Given(tuple(names), torch.cat(parts))


def _image(path: Path, raw: RawData) -> Given:
    """One image: made grey or coloured, scaled to the size of the data set's own, and cut where
    its sides are in another proportion."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    stored = raw.train.inputs[0]
    channels, height, width = stored.shape
    image = ImageOps.fit(
        _open(path, "L" if channels == 1 else "RGB"),
        (width, height),
        method=Image.Resampling.BILINEAR,
    )
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(height, width, channels)
    # A file's white is 255; a data set's own is what its preparation says.
    maximum = raw.prepare.maximum if raw.prepare is not None else 255.0
    return Given((path.name,), pixels.permute(2, 0, 1)[None] * (maximum / 255))


def _open(path: Path, mode: str) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert(mode)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError and others
        what = "does not exist" if not path.exists() else f"is no image that can be read: {error}"
        raise InputError(Problem(what, where=str(path))) from error


def _table(path: Path, raw: RawData) -> Given:
    """Rows of features, by name where names are known, else in the order of the data set's own."""
    import torch

    from harness.inference.tables import rows

    if path.suffix.lower() not in TABLES:
        raise InputError(Problem("must be a .csv table: the model takes features", str(path)))
    if not path.is_file():
        raise InputError(Problem("does not exist", where=str(path)))
    lines, values = rows(path, raw)
    names = tuple(f"{path.name}:{line}" for line in lines)
    return Given(names, torch.tensor(values, dtype=torch.float32))
