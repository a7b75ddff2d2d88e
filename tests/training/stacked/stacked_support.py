"""Trains a stack, and the same trials one by one with torch.optim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.components.base import DataInfo, Horizon, Task
from harness.components.registry import components
from harness.experiment.trial import Choice, Trial
from harness.training.checkpoint import Checkpoint, restore
from harness.training.device import autocast
from harness.training.learning_rate import LearningRate
from harness.training.optimizer import undecayed_names
from harness.training.stacked.loop import KeyedRecord, train_stack
from harness.training.stacked.modules.dropout import EpochDropoutMasks
from harness.training.stacked.modules.forward_pass import SharedInputs
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.optimizer import LearningRates, StackedOptimizer, order_by_rule
from harness.training.stacked.stack import Stack
from harness.training.weight_decay import exclude_from_decay
from tests.support import make_trial

EPOCHS, STEPS, BATCH = 5, 10, 6
"""50 steps in all."""
IMAGES = DataInfo(Task.MULTICLASS, (1, 16, 16), ("a", "b", "c"))
NO_CLASS_OF_ITS_OWN = ({"name": "Adamax"}, {"name": "Adadelta", "weight_decay": 0.1})


def train_items(
    trials: Sequence[tuple[str, Trial]],
    data_root: Path,
    device: torch.device | None = None,
    state: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[KeyedRecord | Checkpoint]:
    """Builds a stack and trains it. state: of a checkpoint, from which it resumes."""
    stack = Stack(trials, data_root, device or torch.device("cpu"))
    resumed = None if state is None else restore(stack, state)
    return train_stack(stack, resumed=resumed, **options)


def train_records(*arguments: Any, **options: Any) -> Iterator[KeyedRecord]:
    """Builds a stack and trains it; yields its records alone."""
    items = train_items(*arguments, **options)
    return (item for item in items if not isinstance(item, Checkpoint))


def options_of(kind: str) -> list[dict[str, Any]]:
    """Every component of a kind with each of its tiny options."""
    found = components(kind).values()
    return [{"name": one.name, **tiny} for one in found for tiny in one.tiny]


def one_of_each(options: Sequence[dict[str, Any]], turn: int) -> list[dict[str, Any]]:
    """For each component's name one of its options: another at each turn."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in options:
        by_name.setdefault(one["name"], []).append(one)
    return [variants[turn % len(variants)] for variants in by_name.values()]


def every_optimizer() -> list[dict[str, Any]]:
    return [*options_of("optimizers"), *NO_CLASS_OF_ITS_OWN]


def model_options() -> list[dict[str, Any]]:
    return [one for one in options_of("models") if one["name"] != "torchvision"]


def mixed_trials(
    model: dict[str, Any],
    optimizers: Sequence[dict[str, Any]],
    schedulers: Sequence[dict[str, Any]],
    whole_product: bool,
) -> list[Trial]:
    """Trials of one architecture that differ in all that a stack may vary."""
    if whole_product:
        pairs = list(product(optimizers, schedulers))
    else:
        count = len(optimizers)
        pairs = [
            (optimizers[i % len(optimizers)], schedulers[i % len(schedulers)]) for i in range(count)
        ]
    return [
        trial_of(
            optimizer,
            model=model,
            scheduler=scheduler,
            lr=0.003 * (1 + i % 5),
            seed=i % 3,
            grad_clip=0.5 if i % 4 == 3 else None,
            epochs=EPOCHS,
        )
        for i, (optimizer, scheduler) in enumerate(pairs)
    ]


def trial_of(optimizer: dict[str, Any], **fields: Any) -> Trial:
    """`make_trial` with any optimizer, such as one that has no file of its own."""
    return replace(make_trial(**fields), optimizer=Choice.of("optimizers", optimizer))


class GivenMask(nn.Module):
    """Dropout by the masks that one seed's stream gives."""

    def __init__(self, layer: int | Iterator[str], whole_channels: bool, p: float) -> None:
        """layer: its name among the masks, or where the name of each use comes from."""
        super().__init__()
        self.layer, self.whole_channels, self.p = layer, whole_channels, p
        self.masks: EpochDropoutMasks | None = None

    def forward(self, x: Tensor) -> Tensor:
        assert self.masks is not None
        shape = (*x.shape[:2], *([1] * (x.dim() - 2))) if self.whole_channels else tuple(x.shape)
        layer = self.layer if isinstance(self.layer, int) else next(self.layer)
        return x * self.masks.next(layer, shape, self.p)[0].to(x.dtype)


class Uses(Iterator[str]):
    """The names of the uses of dropout in a module that is one layer, in their order."""

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.count = 0

    def __next__(self) -> str:
        self.count += 1
        return f"{self.layer}.{self.count - 1}"

    def begin(self, *_: object) -> None:
        self.count = 0


def with_given_masks(model: nn.Module) -> nn.Module:
    """The model with dropout that takes its masks from outside."""
    if not isinstance(model, nn.Sequential):
        _give_inside(model, 0)
        return model
    for i, (name, layer) in enumerate(list(model.named_children())):
        if isinstance(layer, nn.Dropout | nn.Dropout2d) and layer.p:
            setattr(model, name, GivenMask(i, isinstance(layer, nn.Dropout2d), layer.p))
        elif not isinstance(layer, nn.Dropout | nn.Dropout2d):
            _give_inside(layer, i)
    return model


def _give_inside(module: nn.Module, layer: int) -> None:
    uses = Uses(layer)
    module.register_forward_pre_hook(uses.begin)
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Dropout | nn.Dropout2d):
                setattr(part, name, GivenMask(uses, isinstance(child, nn.Dropout2d), child.p))


def build(trial: Trial, dtype: torch.dtype, info: DataInfo = IMAGES) -> nn.Module:
    torch.manual_seed(trial.seed)
    component = trial.model.component
    return component.build(trial.model.options, info, info.classes).to(dtype)


def batch(seed: int, step: int, dtype: torch.dtype, size: int = BATCH) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(1000 * seed + step)
    inputs = torch.randn((size, *IMAGES.shape), generator=stream, dtype=torch.float64)
    return inputs.to(dtype), torch.randint(3, (size,), generator=stream)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def watched(epoch: int) -> dict[str, float]:
    """Metrics for a plateau schedule: they improve, and then no longer."""
    return {"val/loss": max(2.0 - epoch, 0.5), "train/accuracy": min(0.3 * epoch, 0.6)}


def rate_of(trial: Trial) -> LearningRate:
    return LearningRate(trial.scheduler, trial.lr, Horizon(EPOCHS, STEPS))


def alone(trial: Trial, dtype: torch.dtype) -> dict[str, Tensor]:
    """A trial's weights and buffers after 50 steps of torch.optim, by its model's names.

    dtype: of parameters; the forward pass is at the trial's precision.
    """
    precision = autocast(torch.device("cpu"), trial.precision)
    model = with_given_masks(build(trial, dtype))
    optimizer = trial.optimizer.component.build(
        trial.optimizer.options, model.named_parameters(), trial.lr
    )
    excluded = undecayed_names(trial.optimizer, model)
    if excluded:
        apart = [parameter for name, parameter in model.named_parameters() if name in excluded]
        exclude_from_decay(optimizer, apart, trial.optimizer.name)
    rate = rate_of(trial)
    for epoch in range(1, EPOCHS + 1):
        masks = EpochDropoutMasks([trial.seed], torch.tensor([0]), epoch, dtype)
        for part in model.modules():
            if isinstance(part, GivenMask):
                part.masks = masks
        for step in range((epoch - 1) * STEPS, epoch * STEPS):
            for group in optimizer.param_groups:
                group["lr"] = rate.at(step)
            optimizer.zero_grad()
            inputs, targets = batch(trial.seed, step, dtype, size_of(step))
            with precision:
                logits = model(inputs)
            losses_of(logits.to(dtype), targets).mean().backward()
            if trial.grad_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), trial.grad_clip)
            optimizer.step()
        rate.observe(watched(epoch))
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def size_of(step: int) -> int:
    """The last batch of an epoch is shorter."""
    return BATCH - 2 if step % STEPS == STEPS - 1 else BATCH


def stacked(trials: Sequence[Trial], dtype: torch.dtype) -> list[dict[str, Tensor]]:
    """Returns the same for all trials, trained as one stack."""
    device = torch.device("cpu")
    precision = autocast(device, trials[0].precision)
    order = order_by_rule(trials, build(trials[0], dtype))
    rows = [trials[i] for i in order]
    models = [build(trial, dtype) for trial in rows]
    network = StackedNetwork(models, device)
    optimizer = StackedOptimizer(network, rows, models[0])
    rates = [rate_of(trial) for trial in rows]
    table = LearningRates(rates, STEPS, dtype)
    seeds = list(dict.fromkeys(trial.seed for trial in rows))
    owner = torch.tensor([seeds.index(trial.seed) for trial in rows])
    for epoch in range(1, EPOCHS + 1):
        masks = EpochDropoutMasks(seeds, owner, epoch, dtype)
        steps = range((epoch - 1) * STEPS, epoch * STEPS)
        coefficients = optimizer.coefficients(table.of_epoch(epoch), steps.start)
        by_step = zip(*(table.unbind() for table in coefficients), strict=True)
        for step, of_step in zip(steps, by_step, strict=True):
            by_seed = [batch(seed, step, dtype, size_of(step)) for seed in seeds]
            inputs = torch.stack([one for one, _ in by_seed])
            targets = torch.stack([one for _, one in by_seed])[owner]
            with precision:
                logits = network.forward(inputs, SharedInputs.of(owner, len(seeds)), masks).to(
                    dtype
                )
            losses = losses_of(logits.flatten(0, 1), targets.flatten())
            network.backward(losses.view(logits.shape[:2]))
            optimizer.step(of_step)
        for rate in rates:
            rate.observe(watched(epoch))
    by_row = {original: dict(network.state_dict(row)) for row, original in enumerate(order)}
    return [by_row[i] for i in range(len(trials))]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The relative distance of two trials' weights and statistics."""
    assert list(one) == list(other)

    def flat(state: dict[str, Tensor]) -> Tensor:
        return torch.cat([tensor.double().flatten() for tensor in state.values()])

    a, b = flat(one), flat(other)
    assert a.isfinite().all()
    return float((a - b).norm() / b.norm())


def named(options: Sequence[dict[str, Any]]) -> Iterator[str]:
    for one in options:
        yield " ".join(str(value) for value in one.values())
