"""Why torch does not vectorise a module, in words for its author."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from harness.training.stacked.passes import Unstackable

_KNOWN: Final = {
    "random operation": "it draws random numbers by itself (as attention does for its own "
    "dropout), and a stack gives each trial its own for nn.Dropout and its kin alone",
    "data-dependent control flow": "what it does next depends on the values before (if, while)",
    ".item()": "it takes a number out of a tensor (.item(), float()), which differs by trial",
    "dynamic shape": "the shape of what it computes depends on the values before",
}
"""What is found in a message of `torch.vmap`, and what it means."""


@contextmanager
def told() -> Iterator[None]:
    """Raises Unstackable, with a reason, where torch cannot do for a stack what is done inside."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        first, *_ = str(error).splitlines() or [""]
        raise Unstackable(of_vmap(error) or f"torch cannot stack it: {first}") from error


def of_vmap(error: BaseException) -> str | None:
    """What an error of `torch.vmap` means; None for another."""
    message = str(error)
    if not message.startswith("vmap: "):
        return None
    first, *_ = message.splitlines()
    return next(
        (reason for part, reason in _KNOWN.items() if part in message),
        f"torch cannot stack it: {first}",
    )
