"""Trains a stack: the records of `training.loop.train` for each of its trials, epoch by epoch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.components.base import Metric
from harness.core.metrics import EVAL_SECONDS, THROUGHPUT, TRAIN_SECONDS
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.experiment.trial import Trial
from harness.training import device as devices
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, PartialEpoch, ResumePoint
from harness.training.evaluation import compute_stacked_metrics
from harness.training.loop import STORED_INPUTS
from harness.training.resources import ResourceMeter
from harness.training.stacked.checkpoint import capture, restore
from harness.training.stacked.cuda_graph import recorder_for
from harness.training.stacked.data import StackedSplit
from harness.training.stacked.stack import Stack, StackedTrial
from harness.training.stacked.steps import StepRunner

EVALUATED_AT_ONCE = 1 << 15
"""Examples of all trials together in one batch of an evaluation, so that what lies between two
layers stays small; its results do not depend on it but in rounding."""

KeyedRecord = tuple[str, Record]


def train_stack(
    trials: Sequence[tuple[str, Trial]],
    data_root: Path,
    device: torch.device | None = None,
    test_outputs: bool = False,
    cancelled: Collection[str] = frozenset(),
) -> Iterator[KeyedRecord]:
    """Train trials as one stack, yielding each one's records with its key.

    Of each trial they are those of `training.loop.train`, in that order: Started, Measured for
    epoch 0 and each epoch, BatchLosses where asked, Ended. Those of different trials come side by
    side. Clocks are the stack's; `Started.facts["fused"]` says how many shared them.

    trials: with their keys; such as `execution.stacking` puts together. evidence: as in `train`.
    cancelled: keys of trials that leave as interrupted at the end of an epoch; it may grow.
    Raises Unstackable, before anything is yielded, where they cannot train as a stack. An
    exception in a part goes through to the caller, and is the end of all trials.
    """
    items = train_with_checkpoints(trials, data_root, device, test_outputs, cancelled)
    return (item for item in items if not isinstance(item, Checkpoint))


def train_with_checkpoints(
    trials: Sequence[tuple[str, Trial]],
    data_root: Path,
    device: torch.device | None = None,
    test_outputs: bool = False,
    cancelled: Collection[str] = frozenset(),
    policy: CheckpointPolicy | None = None,
    state: Mapping[str, Any] | None = None,
) -> Iterator[KeyedRecord | Checkpoint]:
    """As `train_stack`, with the stack's checkpoints between the records.

    policy: when they are due; without, there are none. state: of a checkpoint, to go on from; then
    trials are all that the stack began with, and those that train go on: each one's Started, and
    what it had not measured before. Raises UnusableCheckpoint too, before anything is yielded.
    """
    found = device or devices.resolve(trials[0][1].device)
    devices.configure(found)
    stack = Stack(trials, data_root, found)
    resumed = None if state is None else restore(stack, state)
    return _records(stack, test_outputs, cancelled, policy or CheckpointPolicy(every=inf), resumed)


def _records(
    stack: Stack,
    test_outputs: bool,
    cancelled: Collection[str],
    policy: CheckpointPolicy,
    resumed: ResumePoint | None,
) -> Iterator[KeyedRecord | Checkpoint]:
    for member in stack.members:
        yield member.key, Started(stack.metadata(member))
    at = resumed or ResumePoint(0, ResourceMeter(stack.device))
    if resumed is None:
        _evaluate(stack, at.clock)
        policy.evaluation_seconds = at.clock.evaluation
        yield from _leave(stack)
        for member in stack.members:
            yield member.key, Measured(0, member.values | _progress(stack, member, at.clock, 0), 0)
    with policy.training(), StepRunner(stack, recorder_for(stack.device)) as steps:
        yield from _train_epochs(stack, steps, cancelled, policy, at)
    if not stack.members:
        return
    if not stack.scores:  # It was interrupted after its last epoch.
        _evaluate(stack, at.clock)
    yield from _finish(stack, test_outputs)


def _train_epochs(
    stack: Stack,
    steps: StepRunner,
    cancelled: Collection[str],
    policy: CheckpointPolicy,
    at: ResumePoint,
) -> Iterator[KeyedRecord | Checkpoint]:
    """The epochs that are left."""
    clock, begun = at.clock, at.partial
    n = len(stack.pools.train)
    for epoch in range(at.epoch + 1, stack.trial.epochs + 1):
        yield from _cut(stack, cancelled)
        if not stack.members:
            return
        begun = begun or PartialEpoch(started_at=clock.train)
        yield from _train_epoch(stack, steps, epoch, clock, policy, begun)
        yield from _leave(stack)
        if _is_evaluated(stack, epoch):
            before = clock.evaluation
            _evaluate(stack, clock)
            policy.evaluation_seconds = clock.evaluation - before
            yield from _leave(stack)
        speed = {THROUGHPUT: n / max(clock.train - begun.started_at, 1e-9)}
        begun = None
        for member in stack.members:
            values = member.values | speed | _progress(stack, member, clock, epoch)
            # After the rate was read: what a schedule observes changes the next epoch's.
            member.rate.observe(values)
            yield member.key, Measured(epoch, values, epoch * n)
        if stack.members and policy.is_due_after_epoch():
            with policy.in_batches():
                yield capture(stack, clock, epoch)


def _cut(stack: Stack, cancelled: Collection[str]) -> Iterator[KeyedRecord]:
    """End the trials that are no longer wanted, and go on with the others."""
    for member in stack.members:
        if member.key in cancelled:
            member.reason, member.outcome = "cancelled", Outcome.INTERRUPTED
    yield from _leave(stack)


def _leave(stack: Stack) -> Iterator[KeyedRecord]:
    """End the trials that have a reason to, and go on with the others."""
    for member in stack.leave():
        yield member.key, Ended(member.outcome, {}, reason=member.reason, metadata=stack.found)


def _train_epoch(
    stack: Stack,
    steps: StepRunner,
    epoch: int,
    clock: ResourceMeter,
    policy: CheckpointPolicy,
    begun: PartialEpoch,
) -> Iterator[KeyedRecord | Checkpoint]:
    """One pass over each trial's training split, in its own order, or what is left of it; yields
    batch losses."""
    places = stack.pools.train.shuffled(stack.seeds, epoch)
    streams = stack.streams(epoch)
    if begun.random_states is not None:
        streams.load(begun.random_states)
    numbers = stack.numbers(epoch)
    clock.start()
    with policy.in_batches():
        for scored in steps.over(places, numbers, streams, len(begun)):
            begun.add(*scored)
            is_last = len(begun) == stack.steps_per_epoch
            if policy.is_due(before_evaluation=is_last and _is_evaluated(stack, epoch)):
                clock.train += clock.lap()
                yield capture(stack, clock, epoch - 1, begun, streams)
                clock.start()
    clock.train += clock.lap()
    stack.found |= steps.metadata
    scores = begun.concatenate(dim=1)
    yield from _batch_losses(stack, epoch, scores.losses)
    finite = scores.losses.isfinite().all(1).tolist()
    for member in stack.members:
        if not finite[member.row]:
            member.reason = f"the training loss was not finite in epoch {epoch}"
    _measure(stack, "train", scores.outputs, scores.targets, scores.losses, stack.metrics)


def _is_evaluated(stack: Stack, epoch: int) -> bool:
    return epoch == stack.trial.epochs or epoch % stack.trial.eval_every == 0


def _batch_losses(stack: Stack, epoch: int, losses: Tensor) -> Iterator[KeyedRecord]:
    """Every N-th batch's mean loss up to the first that is not finite, where asked for."""
    every, size, n = stack.trial.log_every, stack.trial.batch_size, losses.shape[1]
    if every == 0:
        return
    starts = range(0, n, size * every)
    means = torch.stack([_mean(losses[:, start : start + size]) for start in starts]).tolist()
    seen = tuple((epoch - 1) * n + min(start + size, n) for start in starts)
    for member in stack.members:
        values = [mean[member.row] for mean in means]
        sound = next((i for i, value in enumerate(values) if not isfinite(value)), len(values))
        yield member.key, BatchLosses(seen[:sound], tuple(values[:sound]))


def _evaluate(stack: Stack, clock: ResourceMeter) -> None:
    """Measure every member on the evaluated splits, on the evaluation clock."""
    clock.start()
    for name, pool in stack.pools.evaluated().items():
        _measure(stack, name, *_outputs(stack, pool), stack.metrics)
        for member in stack.members:
            if not isfinite(member.values[f"{name}/loss"]) and not member.reason:
                member.reason = f"the {name} loss was not finite"
    clock.evaluation += clock.lap()


def _outputs(stack: Stack, pool: StackedSplit) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [K, N, O], targets [K, N, …] and losses [K, N] of a split, in evaluation mode."""
    at_once = max(1, min(stack.trial.eval_batch_size, EVALUATED_AT_ONCE // len(stack.network)))
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    targets: list[Tensor] = []
    sharing = pool.sharing(stack.owner)
    with torch.inference_mode():
        for inputs, wanted in pool.in_order(at_once):
            wanted = sharing.spread(wanted)
            logits = stack.logits(inputs, sharing, None)
            outputs.append(logits)
            losses.append(stack.losses(logits, wanted))
            targets.append(wanted)
        return torch.cat(outputs, 1), torch.cat(targets, 1), torch.cat(losses, 1)


def _measure(
    stack: Stack,
    split: str,
    outputs: Tensor,
    targets: Tensor,
    losses: Tensor,
    metrics: Mapping[str, Metric],
) -> None:
    """Put a split's scores in place of the stack's older ones, and its metrics in place of each
    member's."""
    stack.scores[split] = (outputs, targets, losses)
    found = _table(split, outputs, targets, losses, metrics)
    for member in stack.members:
        if split == "train":  # The first of an epoch.
            member.values = {}
        member.values |= _of_row(found, member.row, f"{split}/loss")


def _table(
    split: str, outputs: Tensor, targets: Tensor, losses: Tensor, metrics: Mapping[str, Metric]
) -> dict[str, list[float]]:
    """The mean loss and each metric, of every row."""
    values: dict[str, list[float]] = {f"{split}/loss": _mean(losses).tolist()}
    for name, found in compute_stacked_metrics(metrics, outputs, targets).items():
        values[f"{split}/{name}"] = found
    return values


def _of_row(table: Mapping[str, list[float]], row: int, loss: str) -> dict[str, float]:
    """One trial's values: the loss, and each metric that is defined here."""
    return {
        name: column[row] for name, column in table.items() if name == loss or isfinite(column[row])
    }


def _mean(losses: Tensor) -> Tensor:
    """[K]: over examples, summed in double precision where the device has it."""
    return losses.mean(1, dtype=None if losses.device.type == "mps" else torch.float64)


def _progress(
    stack: Stack, member: StackedTrial, clock: ResourceMeter, epoch: int
) -> dict[str, float]:
    """The stack's clocks, and the rate of the epoch's last batch (of the first at epoch 0), and
    after the last epoch its memory."""
    step = max(epoch * stack.steps_per_epoch - 1, 0)
    values = {
        "lr": member.rate.at(step),
        TRAIN_SECONDS: clock.train,
        EVAL_SECONDS: clock.evaluation,
    }
    return values | (clock.memory() if epoch == stack.trial.epochs else {})


def _finish(stack: Stack, test_outputs: bool) -> Iterator[KeyedRecord]:
    """Every metric of the task on every split, of each model as it is after the last epoch."""
    splits = list(stack.pools.evaluated())
    _measure(stack, "train", *_outputs(stack, stack.pools.train), {})
    tables = {
        f"{split}/loss": _table(split, *stack.scores[split], stack.all_metrics)
        for split in ("train", *splits)
    }
    for member in stack.members:
        final: dict[str, float] = {}
        for loss, table in tables.items():
            final |= _of_row(table, member.row, loss)
        kept = _evidence(stack, member) if test_outputs else None
        yield member.key, Ended(Outcome.DONE, final, test_outputs=kept, metadata=stack.found)


def _evidence(stack: Stack, member: StackedTrial) -> TestOutputs:
    outputs, targets, _ = stack.scores["test"]
    return TestOutputs(
        state_dict=stack.network.state_dict(member.row),
        # Copies, as a record that holds one trial's part of a stack would pickle all of it.
        outputs=outputs[member.row].cpu().clone(),
        targets=targets[member.row].cpu().clone(),
        inputs=stack.pools.seeds[int(stack.owner[member.row])].test.first(STORED_INPUTS),
    )
