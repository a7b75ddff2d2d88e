"""The training loop: a generator that yields records and leaves storing them to its caller."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from math import inf, isfinite

import torch
from torch import Tensor, nn

from harness.components.base import Batch
from harness.core.metrics import THROUGHPUT
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.core.seeding import generator, seed_global_streams, stream_seed
from harness.experiment.trial import Trial
from harness.training.checkpoint import (
    Checkpoint,
    CheckpointPolicy,
    PartialEpoch,
    ResumePoint,
    capture,
    random_states,
    set_random_states,
)
from harness.training.evaluation import (
    ModelOutputs,
    compute_metrics,
    evaluate,
    evaluation_weights,
    mean_loss,
    predictions,
)
from harness.training.learning_rate import LearningRate
from harness.training.model_check import require_outputs
from harness.training.own_step import STREAM, step_generator
from harness.training.resources import ResourceMeter
from harness.training.setup import STORED_INPUTS, TrainingContext, TrainingSetup

FINITE_CHECK_BATCHES = 200
"""Within an epoch the loss is checked every this many batches: a diverged trial of long epochs
stops early, and the loop does not wait for the device at every batch."""


class Diverged(Exception):
    """The loss is not finite."""


def train(
    setup: TrainingSetup,
    test_outputs: bool = False,
    policy: CheckpointPolicy | None = None,
    resumed: ResumePoint | None = None,
) -> Iterator[Record | Checkpoint]:
    """Trains one trial and yields its records.

    They are Started, Measured for epoch 0 (untrained) and for each epoch, BatchLosses if the trial
    asks for them, and Ended, which is always the last unless the caller closes the generator.
    Exceptions of components reach the caller.

    test_outputs: whether `Ended` carries weights and test outputs. policy: when checkpoints are
    yielded between the records; without it, never. resumed: where training continues; `setup` must
    have been restored to it, and earlier measurements are not yielded again.
    """
    policy = policy or CheckpointPolicy(every=inf)
    yield Started(setup.metadata())
    start = resumed or ResumePoint(0, ResourceMeter(setup.device))
    try:
        if resumed is None:
            values, _ = _evaluate(setup, start.clock, 0)
            policy.evaluation_seconds = start.clock.evaluation_seconds
            values |= progress(setup, setup.learning_rate, start.clock, 0)
            yield Measured(0, values, 0)
        with policy.training():
            results = yield from _train_epochs(setup, policy, start)
        if not results:  # The trial was interrupted after its last epoch.
            _, results = _evaluate(setup, start.clock, setup.trial.epochs)
    except Diverged as reason:
        yield Ended(Outcome.DIVERGED, {}, reason=str(reason))
        return
    with evaluation_weights(setup, setup.trial.epochs):
        final = _final_metrics(setup, results)
        stored = _test_outputs(setup, results["test"]) if test_outputs else None
    yield Ended(Outcome.DONE, final, test_outputs=stored)


def _train_epochs(
    setup: TrainingSetup, policy: CheckpointPolicy, start: ResumePoint
) -> Generator[Record | Checkpoint, None, dict[str, ModelOutputs]]:
    """Trains the remaining epochs. Returns the outputs of the last evaluation; empty if no epoch
    remained."""
    trial, meter, partial = setup.trial, start.clock, start.partial
    n = len(setup.data.train)
    results: dict[str, ModelOutputs] = {}
    for epoch in range(start.epoch + 1, trial.epochs + 1):
        partial = partial or PartialEpoch(started_at=meter.train_seconds)
        trained = yield from _train_epoch(setup, epoch, meter, policy, partial)
        if not trained.losses.isfinite().all():
            raise Diverged(f"the training loss was not finite in epoch {epoch}")
        values = compute_metrics("train", trained, setup.metrics)
        if is_evaluated(trial, epoch):
            before = meter.evaluation_seconds
            measured, results = _evaluate(setup, meter, epoch)
            policy.evaluation_seconds = meter.evaluation_seconds - before
            values |= measured
        values |= {THROUGHPUT: n / max(meter.train_seconds - partial.started_at, 1e-9)}
        values |= progress(setup, setup.learning_rate, meter, epoch)
        partial = None
        # `values` holds this epoch's rate; what the schedule observes changes the next epoch's.
        setup.learning_rate.observe(values)
        yield Measured(epoch, values, epoch * n)
        if policy.is_due_after_epoch(is_last=epoch == trial.epochs):
            with policy.in_batches():
                yield capture(setup, meter, epoch)
    return results


def _train_epoch(
    setup: TrainingSetup,
    epoch: int,
    meter: ResourceMeter,
    policy: CheckpointPolicy,
    partial: PartialEpoch,
) -> Generator[Record | Checkpoint, None, ModelOutputs]:
    """Trains one epoch, or the rest of it. Returns the model's outputs during training."""
    trial = setup.trial
    # Dropout draws from the global generators, which nothing else here uses. They are seeded for
    # each epoch: a resumed trial needs no state of them, and nothing between epochs disturbs them.
    seed_global_streams(stream_seed(trial.seed, "dropout", epoch))
    order = torch.randperm(len(setup.data.train), generator=generator(trial.seed, "order", epoch))
    augmenting = generator(trial.seed, "augmentation", epoch, device=str(setup.device))
    streams = {"augmentation": augmenting}
    if setup.own_step is not None:
        streams[STREAM] = step_generator(trial.seed, epoch, str(setup.device))
    if partial.random_states is not None:
        set_random_states(setup.device, streams, partial.random_states)
    first_step = (epoch - 1) * setup.steps_per_epoch
    remaining = order[len(partial.batches) * trial.batch_size :]
    batches = setup.data.train.batches(trial.batch_size, remaining) if len(remaining) else ()
    meter.start()
    with policy.in_batches():
        for index, (inputs, targets) in enumerate(batches, len(partial.batches)):
            inputs = setup.augment(inputs, augmenting)
            logits, losses = training_step(
                setup, first_step + index, inputs, targets, streams.get(STREAM)
            )
            partial.batches.append(ModelOutputs(logits, losses, targets))
            is_checked = index % FINITE_CHECK_BATCHES == FINITE_CHECK_BATCHES - 1
            if is_checked and not losses.isfinite().all():
                break
            is_last = index == setup.steps_per_epoch - 1
            if policy.is_due(before_evaluation=is_last and is_evaluated(trial, epoch)):
                meter.train_seconds += meter.lap()
                states = random_states(setup.device, streams)
                yield capture(setup, meter, epoch - 1, partial, states)
                set_random_states(setup.device, streams, states)
                meter.start()
    meter.train_seconds += meter.lap()
    trained = predictions(partial.batches, setup)
    if trial.log_every:
        means = [float(mean_loss(batch.losses)) for batch in partial.batches[:: trial.log_every]]
        yield batch_losses(trial, epoch, len(order), means)
    return trained


def is_evaluated(trial: Trial, epoch: int) -> bool:
    """Whether the trial is evaluated after this epoch."""
    return epoch == trial.epochs or epoch % trial.eval_every == 0


def training_step(
    setup: TrainingSetup,
    step: int,
    inputs: Tensor,
    targets: Tensor,
    random: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Updates the model by one batch. Returns its logits [B, O] and losses [B], detached.

    random: what a training step of the user's own draws from.
    """
    if step % setup.steps_per_epoch == 0 or not setup.learning_rate.constant_within_epoch:
        setup.optimizer.set_lr(setup.learning_rate.at(step))

    def evaluate() -> tuple[Tensor, Tensor]:
        logits, losses = _batch_losses(setup, Batch(inputs, targets), random)
        losses.mean().backward()
        if setup.trial.grad_clip is not None:
            nn.utils.clip_grad_norm_(setup.model.parameters(), setup.trial.grad_clip)
        return logits, losses

    logits, losses = setup.optimizer.step(
        evaluate, setup.model, () if random is None else (random,)
    )
    return logits.detach().float(), losses.detach()


def _batch_losses(
    setup: TrainingSetup, batch: Batch, random: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Returns a batch's logits [B, O] and losses [B], of the trial's own training step if it has
    one."""
    if setup.own_step is not None and random is not None:
        with setup.autocast:
            logits, losses = setup.own_step(setup.model, batch, random)
        return logits, losses.float()
    with setup.autocast:
        logits = setup.model(batch.inputs)
    require_outputs(setup.trial.model, logits, len(batch.inputs), setup.wanted_outputs)
    return logits, setup.loss(logits.float(), batch.targets)


def _evaluate(
    setup: TrainingSetup, meter: ResourceMeter, epoch: int
) -> tuple[dict[str, float], dict[str, ModelOutputs]]:
    """Returns the metrics and outputs of the evaluated splits after an epoch. Raises Diverged."""
    meter.start()
    values: dict[str, float] = {}
    results = {}
    with evaluation_weights(setup, epoch):
        for split, source in setup.data.evaluated().items():
            results[split] = evaluate(setup, source)
            values |= compute_metrics(split, results[split], setup.metrics)
    meter.evaluation_seconds += meter.lap()
    for split in results:
        if not isfinite(values[f"{split}/loss"]):
            raise Diverged(f"the {split} loss was not finite")
    return values, results


def progress(
    context: TrainingContext, learning_rate: LearningRate, meter: ResourceMeter, epoch: int
) -> dict[str, float]:
    """Returns the learning rate of an epoch's last batch (at epoch 0: of the first batch), the
    times, and after the last epoch the peak memory."""
    last_batch = max(epoch * context.steps_per_epoch - 1, 0)
    values = {"lr": learning_rate.at(last_batch), **meter.seconds()}
    return values | (meter.memory() if epoch == context.trial.epochs else {})


def batch_losses(trial: Trial, epoch: int, n: int, means: Sequence[float]) -> BatchLosses:
    """Returns the mean losses of every `log_every`-th batch, up to the first that is not finite.

    n: the size of the training split.
    """
    size = trial.batch_size
    count = next((i for i, mean in enumerate(means) if not isfinite(mean)), len(means))
    starts = range(0, n, size * trial.log_every)[:count]
    examples = tuple((epoch - 1) * n + min(start + size, n) for start in starts)
    return BatchLosses(examples, tuple(means[:count]))


def _final_metrics(setup: TrainingSetup, results: dict[str, ModelOutputs]) -> dict[str, float]:
    """Returns every metric of the task on every split, for the model after the last epoch."""
    values: dict[str, float] = {}
    for split, outputs in {"train": evaluate(setup, setup.data.train), **results}.items():
        values |= compute_metrics(split, outputs, setup.all_metrics)
    return values


def _test_outputs(setup: TrainingSetup, test: ModelOutputs) -> TestOutputs:
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in setup.model.state_dict().items()
    }
    return TestOutputs(
        state_dict=weights,
        outputs=test.outputs[: setup.stored_outputs].cpu(),
        targets=test.targets[: setup.stored_outputs].cpu(),
        inputs=setup.data.test.first(STORED_INPUTS),
    )
