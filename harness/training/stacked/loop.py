"""The training loop of a stack: the records of `training.loop.train` for each of its trials."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import inf, isfinite

import torch
from torch import Tensor

from harness.components.base import Metric
from harness.core.metrics import THROUGHPUT
from harness.core.records import Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.training.checkpoint import (
    Checkpoint,
    CheckpointPolicy,
    PartialEpoch,
    ResumePoint,
    capture,
)
from harness.training.evaluation import ModelOutputs, mean_loss, predictions
from harness.training.loop import batch_losses, is_evaluated, progress
from harness.training.resources import ResourceMeter
from harness.training.setup import STORED_INPUTS
from harness.training.stacked.cuda_graph import recorder_for
from harness.training.stacked.data import StackedSplit
from harness.training.stacked.stack import Stack, StackedTrial
from harness.training.stacked.steps import StepRunner

EVALUATED_AT_ONCE = 1 << 15
"""The most examples of all trials in one batch of an evaluation, so that activations stay small.
Its size changes results by rounding alone."""

KeyedRecord = tuple[str, Record]


def train_stack(
    stack: Stack,
    test_outputs: bool = False,
    cancelled: Collection[str] = frozenset(),
    policy: CheckpointPolicy | None = None,
    resumed: ResumePoint | None = None,
) -> Iterator[KeyedRecord | Checkpoint]:
    """Trains a stack and yields the records of its trials, with their keys.

    The records of each trial are those of `training.loop.train`, in the same order; records of
    different trials interleave. Times are those of the whole stack, and the metadata "fused" of
    `Started` is the number of its trials. An exception of a component reaches the caller and ends
    all trials.

    test_outputs, policy, resumed: as for `train`; `stack` must have been restored to `resumed`.
    cancelled: keys of trials that end as interrupted at the end of an epoch; it may grow.
    """
    policy = policy or CheckpointPolicy(every=inf)
    for trial in stack.active:
        yield trial.key, Started(stack.metadata())
    start = resumed or ResumePoint(0, ResourceMeter(stack.device))
    if resumed is None:
        _evaluate(stack, start.clock)
        policy.evaluation_seconds = start.clock.evaluation_seconds
        yield from _end_leaving(stack)
        for trial in stack.active:
            values = trial.values | progress(stack, trial.learning_rate, start.clock, 0)
            yield trial.key, Measured(0, values, 0)
    with policy.training(), StepRunner(stack, recorder_for(stack.device)) as runner:
        yield from _train_epochs(stack, runner, cancelled, policy, start)
    if not stack.active:
        return
    if not stack.outputs:  # The stack was interrupted after its last epoch.
        _evaluate(stack, start.clock)
    with stack.optimizer.evaluation_weights():
        yield from _end_all(stack, test_outputs)


def _train_epochs(
    stack: Stack,
    runner: StepRunner,
    cancelled: Collection[str],
    policy: CheckpointPolicy,
    start: ResumePoint,
) -> Iterator[KeyedRecord | Checkpoint]:
    """Trains the remaining epochs."""
    meter, partial = start.clock, start.partial
    n = len(stack.data.train)
    for epoch in range(start.epoch + 1, stack.trial.epochs + 1):
        for trial in stack.active:
            if trial.key in cancelled:
                trial.reason, trial.outcome = "cancelled", Outcome.INTERRUPTED
        yield from _end_leaving(stack)
        if not stack.active:
            return
        partial = partial or PartialEpoch(started_at=meter.train_seconds)
        yield from _train_epoch(stack, runner, epoch, meter, policy, partial)
        yield from _end_leaving(stack)
        if is_evaluated(stack.trial, epoch):
            before = meter.evaluation_seconds
            _evaluate(stack, meter)
            policy.evaluation_seconds = meter.evaluation_seconds - before
            yield from _end_leaving(stack)
        throughput = {THROUGHPUT: n / max(meter.train_seconds - partial.started_at, 1e-9)}
        partial = None
        for trial in stack.active:
            values = trial.values | throughput | progress(stack, trial.learning_rate, meter, epoch)
            # `values` holds this epoch's rate; what the schedule observes changes the next one's.
            trial.learning_rate.observe(values)
            yield trial.key, Measured(epoch, values, epoch * n)
        if stack.active and policy.is_due_after_epoch():
            with policy.in_batches():
                yield capture(stack, meter, epoch)


def _train_epoch(
    stack: Stack,
    runner: StepRunner,
    epoch: int,
    meter: ResourceMeter,
    policy: CheckpointPolicy,
    partial: PartialEpoch,
) -> Iterator[KeyedRecord | Checkpoint]:
    """Trains one epoch, or the rest of it, each trial in its own order; yields batch losses."""
    examples = stack.data.train.shuffled(stack.seeds, epoch)
    streams = stack.streams(epoch)
    if partial.random_states is not None:
        streams.load(partial.random_states)
    coefficients = stack.coefficients(epoch)
    meter.start()
    with policy.in_batches():
        for outputs in runner.run(examples, coefficients, streams, len(partial.batches)):
            partial.batches.append(outputs)
            is_last = len(partial.batches) == stack.steps_per_epoch
            if policy.is_due(before_evaluation=is_last and is_evaluated(stack.trial, epoch)):
                meter.train_seconds += meter.lap()
                yield capture(stack, meter, epoch - 1, partial, streams.state())
                meter.start()
    meter.train_seconds += meter.lap()
    stack.final_metadata |= runner.metadata
    trained = predictions(partial.batches, stack)
    yield from _batch_losses(stack, epoch, trained.losses)
    is_finite = trained.losses.isfinite().all(1).tolist()
    for trial in stack.active:
        trial.values = {}
        if not is_finite[trial.index]:
            trial.reason = f"the training loss was not finite in epoch {epoch}"
    _measure(stack, "train", trained, stack.metrics)


def _end_leaving(stack: Stack) -> Iterator[KeyedRecord]:
    """Ends the trials that have a reason to leave."""
    for trial in stack.leave():
        metadata = stack.final_metadata
        yield trial.key, Ended(trial.outcome, {}, reason=trial.reason, metadata=metadata)


def _batch_losses(stack: Stack, epoch: int, losses: Tensor) -> Iterator[KeyedRecord]:
    """Yields each trial's mean loss of every `log_every`-th batch, up to the first that is not
    finite, if the trials ask for it. losses: [K, N]."""
    every, size, n = stack.trial.log_every, stack.trial.batch_size, losses.shape[1]
    if every == 0:
        return
    starts = range(0, n, size * every)
    means = torch.stack([mean_loss(losses[:, start : start + size]) for start in starts]).T.tolist()
    for trial in stack.active:
        yield trial.key, batch_losses(stack.trial, epoch, n, means[trial.index])


def _evaluate(stack: Stack, meter: ResourceMeter) -> None:
    """Measures every trial on the evaluated splits."""
    meter.start()
    with stack.optimizer.evaluation_weights():
        for split, examples in stack.data.evaluated.items():
            _measure(stack, split, _outputs(stack, examples), stack.metrics)
            for trial in stack.active:
                if not isfinite(trial.values[f"{split}/loss"]) and not trial.reason:
                    trial.reason = f"the {split} loss was not finite"
    meter.evaluation_seconds += meter.lap()


def _outputs(stack: Stack, split: StackedSplit) -> ModelOutputs:
    """Returns the outputs of a split in evaluation mode, in float32 as `evaluation.evaluate`."""
    size = max(1, min(stack.trial.eval_batch_size, EVALUATED_AT_ONCE // len(stack.network)))
    batches = []
    shared = split.shared_inputs(stack.seed_indices)
    with torch.inference_mode():
        for inputs, wanted in split.in_order(size):
            targets = shared.expand(wanted)
            logits = stack.network.forward(inputs, shared, None).float()
            batches.append(ModelOutputs(logits, stack.losses(logits, targets), targets))
        return predictions(batches, stack)


def _measure(
    stack: Stack, split: str, outputs: ModelOutputs, metrics: Mapping[str, Metric]
) -> None:
    """Stores a split's outputs in the stack, and its metrics in each trial."""
    stack.outputs[split] = outputs
    table = _metrics(split, outputs, metrics)
    for trial in stack.active:
        trial.values |= _of_trial(table, trial.index, f"{split}/loss")


def _metrics(
    split: str, outputs: ModelOutputs, metrics: Mapping[str, Metric]
) -> dict[str, list[float]]:
    """Returns the mean loss and each metric of every trial; NaN where a metric is undefined."""
    values: dict[str, list[float]] = {f"{split}/loss": mean_loss(outputs.losses).tolist()}
    for name, metric in metrics.items():
        if metric.stacked is not None:
            of_trials = metric.stacked(outputs.outputs, outputs.targets).tolist()
        else:
            pairs = zip(outputs.outputs, outputs.targets, strict=True)
            of_trials = [metric.compute(*pair) for pair in pairs]
        values[f"{split}/{name}"] = of_trials
    return values


def _of_trial(table: Mapping[str, list[float]], index: int, loss: str) -> dict[str, float]:
    """Returns one trial's values: the loss, and each metric that is defined here."""
    return {
        name: values[index]
        for name, values in table.items()
        if name == loss or isfinite(values[index])
    }


def _end_all(stack: Stack, test_outputs: bool) -> Iterator[KeyedRecord]:
    """Ends all trials, with every metric of the task on every split after the last epoch."""
    stack.outputs["train"] = _outputs(stack, stack.data.train)
    tables = {
        f"{split}/loss": _metrics(split, stack.outputs[split], stack.all_metrics)
        for split in ("train", *stack.data.evaluated)
    }
    for trial in stack.active:
        final: dict[str, float] = {}
        for loss, table in tables.items():
            final |= _of_trial(table, trial.index, loss)
        stored = _test_outputs(stack, trial) if test_outputs else None
        metadata = stack.final_metadata
        yield trial.key, Ended(Outcome.DONE, final, test_outputs=stored, metadata=metadata)


def _test_outputs(stack: Stack, trial: StackedTrial) -> TestOutputs:
    logits, _, targets = stack.outputs["test"]
    return TestOutputs(
        state_dict=stack.network.state_dict(trial.index),
        # Copies: pickling a view of one trial would pickle the tensors of the whole stack.
        outputs=logits[trial.index][: stack.stored_outputs].cpu().clone(),
        targets=targets[trial.index][: stack.stored_outputs].cpu().clone(),
        inputs=stack.data.by_seed[int(stack.seed_indices[trial.index])].test.first(STORED_INPUTS),
    )
