"""What training, execution and the store exchange: the records of a trial, outcomes and claims.

Training yields records, execution forwards them, the store writes them. They are plain values
without handles, so they can be pickled. They hold everything that is needed to write the metrics
and artifacts of a trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor


class Outcome(StrEnum):
    """How a trial ended. `DIVERGED`: its loss was no longer finite; its measurements remain."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


FINISHED: Final[tuple[Outcome, ...]] = (Outcome.DONE, Outcome.DIVERGED)
"""Outcomes of a trial that has a result."""
NOT_REPEATED: Final[tuple[Outcome, ...]] = (*FINISHED, Outcome.FAILED)
"""Outcomes after which a trial is trained again only if the user asks for it."""


class Claim(Enum):
    """Whether a process may train a trial that several processes could train.

    GRANTED: this process trains it. HELD: another process is training it. DONE: another process
    has trained it.
    """

    GRANTED = auto()
    HELD = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Started:
    """A trial starts.

    metadata: of the machine and the training (device and its name, threads, number of parameters,
        sizes of the splits, …); JSON-serialisable.
    """

    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics at the end of an epoch. Epoch 0 is the untrained model.

    values: by MLflow metric name ("train/loss", "val/accuracy", "lr", "time/train_s", …); finite.
    examples: how many training examples were seen so far.
    """

    epoch: int
    values: Mapping[str, float]
    examples: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the fields only. The default of dataclasses takes longer than everything else
        on a record's way from a worker, and there are very many records."""
        return Measured, (self.epoch, self.values, self.examples)


@dataclass(frozen=True, slots=True)
class BatchLosses:
    """Mean training losses of single batches, every N batches.

    examples: how many training examples were seen, for each of `losses`.
    """

    examples: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TestOutputs:
    """What figures and the saved model are made from, after the last epoch; tensors on the CPU.

    state_dict: the model's.
    outputs, targets: [N, O], and [N] or [N, T], of the test split.
    inputs: the first test examples, before preprocessing: [n, C, H, W] uint8, or [n, features].
    """

    state_dict: Mapping[str, Tensor]
    outputs: Tensor
    targets: Tensor
    inputs: Tensor


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial's last record.

    final: metrics of the last epoch's model on every split ("test/accuracy": 0.97), also those
        that are recorded only once; empty unless the outcome is done.
    reason: why it diverged, failed or was interrupted, in one line.
    traceback: of a failure.
    test_outputs: if they were requested and the outcome is done.
    metadata: as that of `Started`, but known only after training.
    pruned_at: the epoch after which a search's pruner stopped the trial; its outcome is then
        interrupted.
    """

    outcome: Outcome
    final: Mapping[str, float]
    reason: str = ""
    traceback: str = ""
    test_outputs: TestOutputs | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pruned_at: int | None = None


Record = Started | Measured | BatchLosses | Ended
