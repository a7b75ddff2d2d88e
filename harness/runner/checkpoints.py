"""Lets checkpoints go once the runs of their trials are committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from harness.core.records import FINISHED, Outcome
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.experiment.plan import PlannedTrial


class Writer(Protocol):
    """Reports the trials that it has stored."""

    def stored(self) -> Iterator[tuple[PlannedTrial, Outcome]]: ...


@contextmanager
def settled_checkpoints(writer: Writer, checkpoints: ExperimentCheckpoints) -> Iterator[None]:
    """When left, settles the checkpoints of the last trials."""
    try:
        yield
    finally:
        settle_checkpoints(writer, checkpoints)


def settle_checkpoints(writer: Writer, checkpoints: ExperimentCheckpoints) -> None:
    """Settles the checkpoints of the trials that finished and whose runs are committed."""
    for planned, outcome in writer.stored():
        if outcome in FINISHED:
            checkpoints.finish(planned, outcome is Outcome.DONE)
