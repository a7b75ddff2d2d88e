"""Stopping what trains in this process: its checkpoint first, where it can have one soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from harness.core.records import Ended, Outcome

if TYPE_CHECKING:
    from harness.training.checkpoint import Pace

TOLD_TO_STOP: Final = Ended(Outcome.INTERRUPTED, {}, "told to stop")
"""The last record of a trial that was asked to stop and has kept a checkpoint."""

_pace: Pace | None = None


@contextmanager
def stoppable(pace: Pace) -> Iterator[None]:
    """While entered, `stop_soon` asks this pace."""
    global _pace
    _pace = pace
    try:
        yield
    finally:
        if _pace is pace:
            _pace = None


def is_asked() -> bool:
    """Whether what trains here was asked to stop."""
    return _pace is not None and _pace.asked


def stop_soon() -> bool:
    """Ask for a checkpoint, after which the trial ends as interrupted.

    False where nothing is asked: no trial here keeps checkpoints, or none can be had soon (it
    loads, or evaluates for long), so that its last checkpoint is the one that counts. Safe in a
    signal handler.
    """
    if _pace is None or not _pace.is_near:
        return False
    _pace.asked = True
    return True
