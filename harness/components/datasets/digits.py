"""Handwritten digits of 8×8 pixels, which scikit-learn contains."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import Field

from harness.components.base import DataInfo, Dataset, Examples, RawData
from harness.components.shared.data_files import combined_sha256, open_unzipped
from harness.components.shared.images import ImageOptions, image_info, image_transform
from harness.components.shared.splitting import SPLITTING, StratifiedSplitOptions, training_size
from harness.components.shared.tables import sklearn_files

CLASSES: Final = tuple("0123456789")
DARKEST: Final = 16
FILE: Final = "digits.csv.gz"


class DigitsOptions(ImageOptions, StratifiedSplitOptions):
    limit: int | None = Field(
        None, ge=1, description="use only the first examples, before the split"
    )


def info(options: DigitsOptions, root: Path) -> DataInfo:
    described = image_info("digits", options, (1, 8, 8), CLASSES)
    counts = Counter(_labels()[: options.limit])
    return replace(described, examples=training_size(options.split_rule(), counts))


def fingerprint(options: DigitsOptions, root: Path) -> str:
    return combined_sha256(sklearn_files(FILE))


def load(options: DigitsOptions, root: Path) -> RawData:
    import torch
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.uint8).reshape(-1, 1, 8, 8)[: options.limit]
    labels = torch.tensor(targets, dtype=torch.int64)[: options.limit]
    return RawData(
        info(options, root),
        Examples(images, labels),
        split=options.split_rule(),
        prepare=image_transform(options, maximum=DARKEST),
    )


@cache
def _labels() -> tuple[str, ...]:
    """Returns the label of each example."""
    with open_unzipped(sklearn_files(FILE)[FILE]) as file:
        return tuple(line.rpartition(b",")[2].strip().decode() for line in file)


COMPONENTS = (
    Dataset(
        name="digits",
        description="1,797 handwritten digits of 8×8 pixels; in scikit-learn",
        reference="Kaynak (1995); UCI Optical Recognition of Handwritten Digits",
        options=DigitsOptions,
        tiny=({"limit": 200}, {"limit": 60, "size": 12, "channels": 3, "stratify": True}),
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
    ),
)
