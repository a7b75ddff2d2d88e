"""Pictures of clothes, in the format of MNIST."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Dataset, Numbers
from harness.components.shared.idx import MNISTFamily, MNISTOptions
from harness.components.shared.images import Deviations

FAMILY = MNISTFamily(
    "fashion_mnist",
    "FashionMNIST",
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)


class FashionMNISTOptions(MNISTOptions):
    """mean and std are those of the training images' pixels."""

    mean: Numbers = Field((0.2860,), min_length=1, max_length=3, description="taken off each pixel")
    std: Deviations = Field((0.3530,), description="each pixel is divided by")


COMPONENTS = (
    Dataset(
        name="fashion_mnist",
        description="60,000 + 10,000 grey pictures of clothes, 28×28",
        reference="Xiao, Rasul and Vollgraf, arXiv:1708.07747 (2017)",
        options=FashionMNISTOptions,
        tiny=(
            {"limit": 256, "test_limit": 128, "download": False},
            {"limit": 64, "test_limit": 32, "size": 12, "channels": 3, "download": False},
        ),
        info=FAMILY.info,
        fingerprint=FAMILY.fingerprint,
        load=FAMILY.load,
    ),
)
