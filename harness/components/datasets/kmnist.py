"""Cursive Japanese characters, in the format of MNIST."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Dataset, Numbers
from harness.components.shared.idx import MNISTFamily, MNISTOptions
from harness.components.shared.images import Deviations

CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
FAMILY = MNISTFamily("kmnist", "KMNIST", CLASSES)


class KMNISTOptions(MNISTOptions):
    """mean and std are those of the training images' pixels."""

    mean: Numbers = Field((0.1918,), min_length=1, max_length=3, description="taken off each pixel")
    std: Deviations = Field((0.3483,), description="each pixel is divided by")


COMPONENTS = (
    Dataset(
        name="kmnist",
        description="60,000 + 10,000 handwritten Japanese characters, 28×28",
        reference="Clanuwat et al., arXiv:1812.01718 (2018)",
        options=KMNISTOptions,
        tiny=(
            {"limit": 256, "test_limit": 128, "download": False},
            {"limit": 64, "test_limit": 32, "size": 12, "channels": 3, "download": False},
        ),
        info=FAMILY.info,
        fingerprint=FAMILY.fingerprint,
        load=FAMILY.load,
    ),
)
