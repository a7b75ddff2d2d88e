"""Stops what trains in this process, after a checkpoint if one can be written soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from harness.core.records import Ended, Outcome

if TYPE_CHECKING:
    from harness.training.checkpoint import CheckpointPolicy

TOLD_TO_STOP: Final = Ended(Outcome.INTERRUPTED, {}, "told to stop")
"""The last record of a trial that was asked to stop and has written a checkpoint."""

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


def stop_requested() -> bool:
    """Whether what trains here was asked to stop."""
    return _policy is not None and _policy.stop_requested


def request_stop() -> bool:
    """Asks for a checkpoint, after which the trial ends as interrupted.

    Returns False, and asks nothing, if no trial here writes checkpoints or none can be written
    soon, because data is loading or a long evaluation runs; the trial then resumes from its last
    checkpoint. Safe in a signal handler.
    """
    if _policy is None or not _policy.can_stop_soon:
        return False
    _policy.stop_requested = True
    return True
