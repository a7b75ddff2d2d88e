"""Checkpoints of a stack.

They hold the trials that have ended too: where numbers lie in memory decides how they are rounded,
so a stack that resumes needs the same layout.
"""

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
"""Of a stack's state; raised when older checkpoints can no longer be read."""


def capture(
    stack: Stack,
    clock: ResourceMeter,
    epoch: int,
    partial: PartialEpoch | None = None,
    streams: EpochStreams | None = None,
) -> Checkpoint:
    """Returns the checkpoint of a stack after `epoch` whole epochs, and inside the next if it is
    `partial`. streams: the random streams of that epoch."""
    own_state = {
        "format": FORMAT,
        "rows": list(stack.keys),
        "living": [trial.key for trial in stack.active],
        "network": stack.network.state(),
        "updates": stack.optimizer.state(),
        "rates": stack.learning_rates.state(),
    }
    states = None if streams is None else streams.state()
    return build_checkpoint(own_state, stack.device, clock, epoch, partial, states, dim=1)


def restore(stack: Stack, state: Mapping[str, Any]) -> ResumePoint:
    """Puts a new stack where the one of `state` was, which began with the same trials.

    Raises UnusableCheckpoint if that is impossible; the stack can then no longer be used.
    """

    def load() -> None:
        stack.restrict(state["rows"], state["living"])
        stack.network.load(state["network"])
        stack.optimizer.load(state["updates"])
        stack.learning_rates.load(state["rates"])

    return resume_from(state, FORMAT, stack.device, load, stack.trial.batch_size, dim=1)
