"""Named random streams.

Every source of randomness of a trial has its own stream, derived from (seed, name). Two
optimizers with one seed so start from the same weights and see the same batches, whatever else
differs between them and in whatever order trials run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

STREAMS: Final = (
    ("init",),
    ("split", "val"),
    ("split", "test"),
    ("order", 1),
    ("dropout", 1),
    ("augmentation", 1),
)
"""A trial's streams; of those that restart with each epoch, the first epoch's."""

SEEDING_RULE: Final = (
    "the first 8 bytes of the SHA-256 of harness/<seed>/<stream>, big-endian, halved; order, "
    "dropout and augmentation restart with each epoch, whose number (from 1) is the stream's last "
    "part; split/test, drawn from only where split_seed is null, is scikit-learn's random_state, "
    "the remainder by 2**32; a trial trained in a stack has a dropout stream for each layer, "
    "dropout/<epoch>/<layer>, and for each use inside a module that is one layer, "
    "dropout/<epoch>/<layer>.<use>"
)


def stream_seed(seed: int, *name: str | int) -> int:
    """The seed of a stream: an integer in [0, 2**63), the same on every machine.

    name: the stream's name and what else sets it apart, such as the epoch. Streams that restart
    with each epoch need no state to resume.
    """
    text = "/".join(str(part) for part in ("harness", seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def split_random_state(seed: int) -> int:
    """scikit-learn's `random_state`, of 32 bits, for a test split that follows the seed."""
    return stream_seed(seed, "split", "test") % 2**32


def stream_seeds(seed: int) -> dict[str, int]:
    """The seeds of `STREAMS` as generators get them, by the streams' names: "order/1"."""
    seeds = {"/".join(map(str, name)): stream_seed(seed, *name) for name in STREAMS}
    return seeds | {"split/test": split_random_state(seed)}


def generator(seed: int, *name: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator for a stream, on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *name))
