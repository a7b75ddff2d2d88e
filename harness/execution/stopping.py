"""Stopping what trains in this process: its checkpoint first, where it can have one soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from harness.core.records import Ended, Outcome

if TYPE_CHECKING:
    from harness.training.checkpoint import CheckpointPolicy

TOLD_TO_STOP: Final = Ended(Outcome.INTERRUPTED, {}, "told to stop")
"""The last record of a trial that was asked to stop and has kept a checkpoint."""

_policy: CheckpointPolicy | None = None


@contextmanager
def stoppable(policy: CheckpointPolicy) -> Iterator[None]:
    """While entered, `request_stop` asks this policy."""
    global _policy
    _policy = policy
    try:
        yield
    finally:
        if _policy is policy:
            _policy = None


def is_asked() -> bool:
    """Whether what trains here was asked to stop."""
    return _policy is not None and _policy.stop_requested


def request_stop() -> bool:
    """Ask for a checkpoint, after which the trial ends as interrupted.

    False where nothing is asked: no trial here keeps checkpoints, or none can be had soon (it
    loads, or evaluates for long), so that its last checkpoint is the one that counts. Safe in a
    signal handler.
    """
    if _policy is None or not _policy.can_stop_soon:
        return False
    _policy.stop_requested = True
    return True
