"""Handwritten digits: the classic."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Dataset, Numbers
from harness.components.shared.idx import MNISTFamily, MNISTOptions
from harness.components.shared.images import Deviations

FAMILY = MNISTFamily("mnist", "MNIST", tuple("0123456789"))


class MNISTDigitsOptions(MNISTOptions):
    """mean and std are those of the training images' pixels."""

    mean: Numbers = Field((0.1307,), min_length=1, max_length=3, description="taken off each pixel")
    std: Deviations = Field((0.3081,), description="each pixel is divided by")


COMPONENTS = (
    Dataset(
        name="mnist",
        description="60,000 + 10,000 handwritten digits, 28×28",
        reference="LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86 (1998)",
        options=MNISTDigitsOptions,
        tiny=(
            {"limit": 256, "test_limit": 128, "download": False},
            {"limit": 64, "test_limit": 32, "size": 12, "channels": 3, "download": False},
        ),
        info=FAMILY.info,
        fingerprint=FAMILY.fingerprint,
        load=FAMILY.load,
    ),
)
