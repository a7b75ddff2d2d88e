"""The answer to a claim: whether this process may train a trial."""

from __future__ import annotations

from enum import Enum, auto


class Claim(Enum):
    """What a process may do with a trial that several could train.

    GRANTED: this process trains it. HELD: another process trains it now. DONE: another process has
    trained it.
    """

    GRANTED = auto()
    HELD = auto()
    DONE = auto()
