"""Named random streams.

Every source of randomness of a trial has its own stream, derived from the trial's seed and the
stream's name. Two optimizers with the same seed start from the same weights and see the same
batches, whatever else differs between them and in whatever order trials run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

STREAMS: Final = ("init", "split/val", "split/test", "order/1", "dropout/1", "augmentation/1")
"""The streams of a trial; for streams that restart with each epoch, that of the first epoch."""

SEEDING_RULE: Final = (
    "the first 8 bytes of the SHA-256 of harness/<seed>/<stream>, big-endian, halved; order, "
    "dropout, augmentation and training_step (what a training step of the user's own draws from) "
    "restart with each epoch, whose number (from 1) is the stream's last part; split/test, "
    "drawn from only where split_seed is null, is scikit-learn's random_state, "
    "the remainder by 2**32; a trial trained in a stack has a dropout stream for each layer, "
    "dropout/<epoch>/<layer>, and for each use inside a module that is one layer, "
    "dropout/<epoch>/<layer>.<use>; a training loop of the user's own draws from loop/<epoch>, and "
    "from loop/0 before the first epoch"
)
"""How the streams are derived, as the store records it with each run."""


def stream_seed(seed: int, *name: str | int) -> int:
    """Returns the seed of a stream: an integer in [0, 2**63), the same on every machine.

    name: the stream's name and whatever else identifies it, such as the epoch. A stream that
        restarts with each epoch needs no state to be resumed.
    """
    text = "/".join(str(part) for part in ("harness", seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def split_random_state(seed: int) -> int:
    """Returns scikit-learn's `random_state` (32 bits) of a test split that follows the seed."""
    return stream_seed(seed, "split", "test") % 2**32


def stream_seeds(seed: int) -> dict[str, int]:
    """Returns the seeds of `STREAMS`, by names such as "order/1"."""
    seeds = {name: stream_seed(seed, name) for name in STREAMS}
    return seeds | {"split/test": split_random_state(seed)}


def generator(seed: int, *name: str | int, device: str = "cpu") -> torch.Generator:
    """Returns a torch generator of a stream, on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *name))


HOST_STREAMS: Final = ("python", "numpy")
"""Global random streams of the host, beside torch's: a user's code may draw from them."""


def seed_global_streams(seed: int) -> None:
    """Seeds torch's global random numbers, and those of `HOST_STREAMS`."""
    import numpy as np
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def host_random_states() -> dict[str, list[float]]:
    """Returns the states of `HOST_STREAMS` as numbers."""
    import numpy as np

    version, words, cached = random.getstate()
    python = [version, *words, isinstance(cached, float), cached or 0.0]
    _, keys, *rest = np.random.get_state(legacy=True)
    return {"python": python, "numpy": [*map(int, keys), *rest]}


@contextmanager
def host_streams_kept() -> Iterator[None]:
    """Restores the states of `HOST_STREAMS` on exit."""
    states = host_random_states()
    try:
        yield
    finally:
        set_host_random_states(states)


def set_host_random_states(states: Mapping[str, Sequence[float]]) -> None:
    """Restores what `host_random_states` returned."""
    import numpy as np

    if "python" in states:
        *numbers, is_cached, cached = states["python"]
        version, *words = map(int, numbers)
        random.setstate((version, tuple(words), cached if is_cached else None))
    if "numpy" in states:
        *numbers, cached = states["numpy"]
        *keys, position, is_cached = map(int, numbers)
        np.random.set_state(("MT19937", np.array(keys, np.uint32), position, is_cached, cached))
