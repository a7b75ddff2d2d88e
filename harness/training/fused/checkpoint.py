"""Checkpoints of a stack: all that its rows are, those of trials that have ended too, since where
numbers lie in memory decides how they are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from harness.training.checkpoint import Checkpoint, Epoch, Resumed, Unusable
from harness.training.clock import Clock
from harness.training.fused.stack import Stack
from harness.training.fused.streams import EpochStreams

FORMAT: Final = 2
"""Raised when older checkpoints can no longer be read."""


def taken(
    stack: Stack,
    clock: Clock,
    epoch: int,
    begun: Epoch | None = None,
    streams: EpochStreams | None = None,
) -> Checkpoint:
    """A stack's checkpoint after `epoch` whole epochs, and what was `begun` of the next one."""
    state: dict[str, Any] = {
        "format": FORMAT,
        "epoch": epoch,
        "rows": list(stack.rows),
        "living": [member.key for member in stack.members],
        "network": stack.network.state(),
        "updates": stack.updates.state(),
        "rates": stack.rates.state(),
        "clock": {"train": clock.train, "evaluation": clock.evaluation, "before": clock.peak},
        "device": stack.device.type,
        "begun": None,
    }
    if begun is None or streams is None:
        return Checkpoint(epoch, 0, state)
    scores = begun.scores(dim=1)
    state["begun"] = {
        "before": begun.before,
        "outputs": scores.outputs,
        "losses": scores.losses,
        "targets": scores.targets,
        "streams": streams.state(),
    }
    return Checkpoint(epoch, len(begun), state)


def restore(stack: Stack, state: Mapping[str, Any]) -> Resumed:
    """Put a stack just made, of the trials that the one of `state` began with, where that one was.

    Raises Unusable where that is not possible; the stack is then spoilt.
    """
    if state["format"] != FORMAT:
        raise Unusable("it was written by another version")
    if state["begun"] is not None and state["device"] != stack.device.type:
        raise Unusable(f"its random streams are of the device {state['device']}")
    try:
        stack.go_to(state["rows"], state["living"])
        stack.network.load(state["network"])
        stack.updates.load(state["updates"])
        stack.rates.load(state["rates"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise Unusable(" ".join(str(error).split())) from error
    clock = Clock(stack.device, **state["clock"])
    begun = None if state["begun"] is None else _begun(stack, state["begun"])
    return Resumed(state["epoch"], clock, begun)


def _begun(stack: Stack, state: Mapping[str, Any]) -> Epoch:
    size = stack.trial.batch_size

    def batches(name: str) -> list[Tensor]:
        return list(state[name].to(stack.device).split(size, dim=1))

    return Epoch(
        state["before"],
        batches("outputs"),
        batches("losses"),
        batches("targets"),
        state["streams"],
    )
