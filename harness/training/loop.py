"""The training loop: a generator that yields what it measures and leaves the rest to its caller."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.metrics import EVAL_SECONDS, THROUGHPUT, TRAIN_SECONDS
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.core.seeding import generator, stream_seed
from harness.training import device as devices
from harness.training.batch_sources import Batch
from harness.training.checkpoint import (
    Checkpoint,
    CheckpointPolicy,
    PartialEpoch,
    ResumePoint,
    capture,
    set_random_states,
)
from harness.training.evaluation import ModelOutputs, compute_metrics, evaluate, mean
from harness.training.resources import ResourceMeter
from harness.training.setup import TrainingSetup, augment_batch

FINITE_CHECK_BATCHES = 200
"""Batches between looks at the loss inside an epoch, so that a diverged trial of long epochs stops
early without the device being asked at every batch."""
STORED_INPUTS = 64


class Diverged(Exception):
    """The loss is no longer finite."""


def train(
    parts: TrainingSetup,
    test_outputs: bool = False,
    policy: CheckpointPolicy | None = None,
    resumed: ResumePoint | None = None,
) -> Iterator[Record | Checkpoint]:
    """Train one trial, yielding records: Started, Measured for epoch 0 (untrained) and each epoch,
    BatchLosses where asked, and Ended, which is always the last unless the caller stops it.

    evidence: whether `Ended` carries weights and test outputs. policy: when checkpoints are due;
    they come between the records, none without it. resumed: where to go on, with `parts` put there;
    what was measured before is not yielded again. Closing the generator stops the trial where it
    yielded last; an exception in a part goes through to the caller.
    """
    policy = policy or CheckpointPolicy(every=inf)
    yield Started(parts.metadata())
    at = resumed or ResumePoint(0, ResourceMeter(parts.device))
    try:
        if resumed is None:
            values, _ = _evaluated(parts, at.clock)
            policy.evaluation_seconds = at.clock.evaluation
            yield Measured(0, values | _progress(parts, at.clock, 0), 0)
        with policy.training():
            scores = yield from _train_epochs(parts, policy, at)
        if not scores:  # It was interrupted after its last epoch.
            _, scores = _evaluated(parts, at.clock)
    except Diverged as reason:
        yield Ended(Outcome.DIVERGED, {}, reason=str(reason))
        return
    yield Ended(
        Outcome.DONE,
        _final(parts, scores),
        test_outputs=_evidence(parts, scores["test"]) if test_outputs else None,
    )


def _train_epochs(
    parts: TrainingSetup, policy: CheckpointPolicy, at: ResumePoint
) -> Generator[Record | Checkpoint, None, dict[str, ModelOutputs]]:
    """The epochs that are left. Returns the last evaluation's scores; none where none was left."""
    clock, begun = at.clock, at.partial
    n = len(parts.data.train)
    scores: dict[str, ModelOutputs] = {}
    for epoch in range(at.epoch + 1, parts.trial.epochs + 1):
        begun = begun or PartialEpoch(started_at=clock.train)
        trained, batches = yield from _train_epoch(parts, epoch, clock, policy, begun)
        if batches is not None:
            yield batches
        values = compute_metrics("train", _finite(trained, epoch), parts.metrics)
        if _is_evaluated(parts, epoch):
            before = clock.evaluation
            measured, scores = _evaluated(parts, clock)
            policy.evaluation_seconds = clock.evaluation - before
            values |= measured
        values |= {THROUGHPUT: n / max(clock.train - begun.started_at, 1e-9)}
        values |= _progress(parts, clock, epoch)
        begun = None
        # After the rate was read: what a schedule observes changes the next epoch's.
        parts.learning_rate.observe(values)
        yield Measured(epoch, values, epoch * n)
        if policy.is_due_after_epoch(is_last=epoch == parts.trial.epochs):
            with policy.in_batches():
                yield capture(parts, clock, epoch)
    return scores


def _train_epoch(
    parts: TrainingSetup,
    epoch: int,
    clock: ResourceMeter,
    policy: CheckpointPolicy,
    begun: PartialEpoch,
) -> Generator[Checkpoint, None, tuple[ModelOutputs, BatchLosses | None]]:
    """One pass over the training split, or what is left of it. Returns what the model put out while
    it was trained."""
    trial = parts.trial
    # Dropout draws from the global generators, which nothing else here uses; seeded anew for each
    # epoch, they need no state to resume and cannot be disturbed between epochs.
    torch.manual_seed(stream_seed(trial.seed, "dropout", epoch))
    order = torch.randperm(len(parts.data.train), generator=generator(trial.seed, "order", epoch))
    chance = generator(trial.seed, "augmentation", epoch, device=str(parts.device))
    if begun.random_states is not None:
        set_random_states(parts.device, chance, begun.random_states)
    step = (epoch - 1) * parts.steps_per_epoch
    precision = autocast(parts)
    clock.start()
    with policy.in_batches():
        for index, (inputs, wanted) in _batches(parts, order, len(begun)):
            if parts.augment:
                inputs = augment_batch(parts.augment, inputs, chance)
            logits, loss = training_step(parts, step + index, inputs, wanted, precision)
            begun.add(logits, loss, wanted)
            if _is_checked(index) and not loss.isfinite().all():
                break
            is_last = index == parts.steps_per_epoch - 1
            if policy.is_due(before_evaluation=is_last and _is_evaluated(parts, epoch)):
                clock.train += clock.lap()
                checkpoint = capture(parts, clock, epoch - 1, begun, chance)
                yield checkpoint
                set_random_states(parts.device, chance, checkpoint.state["begun"]["streams"])
                clock.start()
    clock.train += clock.lap()
    return begun.concatenate(), _batch_losses(parts, epoch, begun.losses)


def _batches(parts: TrainingSetup, order: Tensor, done: int) -> Iterator[tuple[int, Batch]]:
    """An epoch's batches, each with its number, but for those that are done."""
    size = parts.trial.batch_size
    left = order[done * size :]
    return enumerate(parts.data.train.batches(size, left), done) if len(left) else iter(())


def _is_evaluated(parts: TrainingSetup, epoch: int) -> bool:
    return epoch == parts.trial.epochs or epoch % parts.trial.eval_every == 0


def _is_checked(index: int) -> bool:
    return index % FINITE_CHECK_BATCHES == FINITE_CHECK_BATCHES - 1


def training_step(
    parts: TrainingSetup,
    step: int,
    inputs: Tensor,
    wanted: Tensor,
    precision: AbstractContextManager[None],
) -> tuple[Tensor, Tensor]:
    """One update. Returns the batch's logits [B, O] and losses [B], detached."""
    if step % parts.steps_per_epoch == 0 or not parts.learning_rate.constant_within_epoch:
        lr = parts.learning_rate.at(step)
        for group in parts.optimizer.param_groups:
            group["lr"] = lr
    parts.optimizer.zero_grad(set_to_none=True)
    with precision:
        logits = parts.model(inputs)
    losses = parts.loss(logits.float(), wanted)
    losses.mean().backward()
    if parts.trial.grad_clip is not None:
        nn.utils.clip_grad_norm_(parts.model.parameters(), parts.trial.grad_clip)
    parts.optimizer.step()
    return logits.detach().float(), losses.detach()


def autocast(parts: TrainingSetup) -> AbstractContextManager[Any]:
    """The context of a forward pass at the trial's precision; may be entered many times."""
    return devices.autocast(parts.device, parts.trial.precision)


def _finite(scores: ModelOutputs, epoch: int) -> ModelOutputs:
    if not scores.losses.isfinite().all():
        raise Diverged(f"the training loss was not finite in epoch {epoch}")
    return scores


def _evaluated(
    parts: TrainingSetup, clock: ResourceMeter
) -> tuple[dict[str, float], dict[str, ModelOutputs]]:
    """Metrics and scores of the evaluated splits, on the evaluation clock."""
    clock.start()
    values: dict[str, float] = {}
    scores = {}
    for name, source in parts.data.evaluated().items():
        scores[name] = evaluate(
            parts.model, source, parts.loss, parts.trial.eval_batch_size, autocast(parts)
        )
        values |= compute_metrics(name, scores[name], parts.metrics)
    clock.evaluation += clock.lap()
    for name in scores:
        if not isfinite(values[f"{name}/loss"]):
            raise Diverged(f"the {name} loss was not finite")
    return values, scores


def _progress(parts: TrainingSetup, clock: ResourceMeter, epoch: int) -> dict[str, float]:
    """The clocks, and the learning rate of the epoch's last batch (of the first at epoch 0), and
    after the last epoch the memory."""
    step = max(epoch * parts.steps_per_epoch - 1, 0)
    values = {
        "lr": parts.learning_rate.at(step),
        TRAIN_SECONDS: clock.train,
        EVAL_SECONDS: clock.evaluation,
    }
    return values | (clock.memory() if epoch == parts.trial.epochs else {})


def _batch_losses(parts: TrainingSetup, epoch: int, losses: list[Tensor]) -> BatchLosses | None:
    """Every N-th batch's mean loss up to the first that is not finite, where asked for."""
    every = parts.trial.log_every
    if every == 0:
        return None
    size, n = parts.trial.batch_size, len(parts.data.train)
    examples, values = [], []
    for index in range(0, len(losses), every):
        value = mean(losses[index])
        if not isfinite(value):
            break
        examples.append((epoch - 1) * n + min((index + 1) * size, n))
        values.append(value)
    return BatchLosses(tuple(examples), tuple(values))


def _final(parts: TrainingSetup, scores: dict[str, ModelOutputs]) -> dict[str, float]:
    """Every metric of the task on every split, of the model as it is after the last epoch."""
    train = evaluate(
        parts.model, parts.data.train, parts.loss, parts.trial.eval_batch_size, autocast(parts)
    )
    values: dict[str, float] = {}
    for name, split in {"train": train, **scores}.items():
        values |= compute_metrics(name, split, parts.all_metrics)
    return values


def _evidence(parts: TrainingSetup, test: ModelOutputs) -> TestOutputs:
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in parts.model.state_dict().items()
    }
    return TestOutputs(
        state_dict=state,
        outputs=test.outputs.cpu(),
        targets=test.targets.cpu(),
        inputs=parts.data.test.first(STORED_INPUTS),
    )
