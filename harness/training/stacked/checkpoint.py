"""Checkpoints of a stack: all that its rows are, those of trials that have ended too, since where
numbers lie in memory decides how they are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.training.checkpoint import (
    Checkpoint,
    PartialEpoch,
    ResumePoint,
    build_checkpoint,
    resume_from,
)
from harness.training.resources import ResourceMeter
from harness.training.stacked.stack import EpochStreams, Stack

FORMAT: Final = 3
"""Raised when older checkpoints can no longer be read."""


def capture(
    stack: Stack,
    clock: ResourceMeter,
    epoch: int,
    begun: PartialEpoch | None = None,
    streams: EpochStreams | None = None,
) -> Checkpoint:
    """A stack's checkpoint after `epoch` whole epochs, and what was `begun` of the next one."""
    own = {
        "format": FORMAT,
        "rows": list(stack.rows),
        "living": [member.key for member in stack.members],
        "network": stack.network.state(),
        "updates": stack.updates.state(),
        "rates": stack.rates.state(),
    }
    drawn = None if streams is None else streams.state()
    return build_checkpoint(own, stack.device, clock, epoch, begun, drawn, dim=1)


def restore(stack: Stack, state: Mapping[str, Any]) -> ResumePoint:
    """Put a stack just made, of the trials that the one of `state` began with, where that one was.

    Raises UnusableCheckpoint where that is not possible; the stack is then spoilt.
    """

    def load() -> None:
        stack.go_to(state["rows"], state["living"])
        stack.network.load(state["network"])
        stack.updates.load(state["updates"])
        stack.rates.load(state["rates"])

    return resume_from(state, FORMAT, stack.device, load, stack.trial.batch_size, dim=1)
