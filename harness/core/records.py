"""What training yields, dispatch moves and tracking writes: the run side's only words.

Records are plain values: they pickle, they hold no handle, and they are enough to write every
metric and artifact of a trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor


class Outcome(StrEnum):
    """How a trial ended. `DIVERGED`: its loss was no longer finite; what it measured is kept."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


FINISHED: Final[tuple[Outcome, ...]] = (Outcome.DONE, Outcome.DIVERGED)
"""Outcomes of a trial whose results count."""
NOT_REPEATED: Final[tuple[Outcome, ...]] = (*FINISHED, Outcome.FAILED)
"""Outcomes after which a trial is not trained again unless the user asks for it."""


@dataclass(frozen=True, slots=True)
class Started:
    """A trial begins. facts: what was found where it runs (device, its name, threads, number of
    parameters, sizes of the splits …), for its provenance; JSON-able."""

    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics at the end of an epoch; epoch 0 is the untrained model. Every value is finite.

    values: by MLflow's metric name ("train/loss", "val/accuracy", "lr", "time/train_s", …).
    examples: training examples seen so far.
    """

    epoch: int
    values: Mapping[str, float]
    examples: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its fields: what dataclasses do by themselves takes longer than the rest of a
        record's way from a worker, and there are very many."""
        return Measured, (self.epoch, self.values, self.examples)


@dataclass(frozen=True, slots=True)
class BatchLosses:
    """Mean training loss of single batches, every N batches, over examples seen."""

    examples: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TestOutputs:
    """What figures and a saved model are made from, after the last epoch; tensors on the CPU.

    state_dict: the model's. outputs [N, O] and targets [N] or [N, T]: on the test split.
    inputs: the first test examples, unprepared ([n, C, H, W] uint8) or as stored ([n, features]).
    """

    state_dict: Mapping[str, Tensor]
    outputs: Tensor
    targets: Tensor
    inputs: Tensor


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial's last record.

    reason: why it diverged, failed or was interrupted, in one line. traceback: of a failure.
    final: metrics of the last epoch's model on every split ("test/accuracy": 0.97), including
        those recorded only once; empty unless the outcome is done.
    evidence: only where it was asked for, and the outcome is done.
    facts: what was found on the way, as those of `Started`.
    pruned_at: the epoch after which a search's pruner stopped it; its outcome is interrupted.
    """

    outcome: Outcome
    final: Mapping[str, float]
    reason: str = ""
    traceback: str = ""
    test_outputs: TestOutputs | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pruned_at: int | None = None


Record = Started | Measured | BatchLosses | Ended
