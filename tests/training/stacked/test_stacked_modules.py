"""Users' own modules as stacks: dropout, batch normalisation and buffers anywhere inside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.experiment.trial import Choice, Trial
from harness.training.stacked.compatibility import verify
from harness.training.stacked.modules.dropout import EpochDropoutMasks
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable
from harness.training.stacked.network import StackedNetwork
from tests.support import make_trial
from tests.training.stacked import stacked_support as support

TOLERANCE = 1e-9


class Block(nn.Module):
    """A residual block with everything inside; its one dropout is used twice."""

    def __init__(self, channels: int, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, momentum=momentum)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.drop = nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.drop(functional.relu(self.norm(self.first(x))))
        out: Tensor = x + self.drop(self.second(inside))
        return out


class Residual(nn.Module):
    """16×16 images to 3 logits."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 5, stride=3)
        self.blocks = nn.Sequential(Block(2, momentum), Block(2, momentum))
        self.norm = nn.BatchNorm1d(32, affine=False)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.blocks(self.stem(x)).flatten(1))
        out: Tensor = self.head(self.drop(features))
        return out


class Centred(nn.Module):
    """A buffer that is assigned anew, one that is changed in place, and one that is only read."""

    centre: Tensor
    batches: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(256)
        self.head = nn.Linear(256, 3)
        self.register_buffer("centre", torch.zeros(256))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.full((), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * x.mean(0)
            self.batches += 1
        out: Tensor = self.head(self.norm((x - self.centre) * self.scale))
        return out


def trial_of(build: Callable[[], nn.Module], **fields: Any) -> Trial:
    """A trial whose model is one's own."""
    trial = make_trial(**fields)
    component = replace(trial.model.component, name="own", build=lambda *_: build())
    return replace(trial, model=Choice(component, trial.model.options))


def own_trials(build: Callable[[], nn.Module]) -> list[Trial]:
    """With every fourth optimizer, on three seeds."""
    optimizers, schedulers = support.every_optimizer()[::4], support.options_of("schedulers")[::4]
    mixed = support.mixed_trials({"name": "mlp"}, optimizers, schedulers, whole_product=False)
    component = trial_of(build).model.component
    return [replace(one, model=Choice(component, one.model.options)) for one in mixed]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "averages over all batches": lambda: Residual(momentum=None),
    "buffers": Centred,
}


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES)
def test_a_module_of_ones_own_equals_itself_alone(build: Callable[[], nn.Module]) -> None:
    trials = own_trials(build)
    for trial, mine in zip(trials, support.stacked(trials, torch.float64), strict=True):
        error = support.distance(mine, support.alone(trial, torch.float64))
        assert error < TOLERANCE, f"{trial.optimizer.label} {trial.scheduler.label}: {error}"


def test_neither_the_position_nor_the_number_of_trials_matters() -> None:
    trials = own_trials(Residual)
    whole = support.stacked(trials, torch.float64)
    backwards = support.stacked(trials[::-1], torch.float64)[::-1]
    few = support.stacked(trials[:2], torch.float64)
    for one, other in [*zip(whole, backwards, strict=True), *zip(whole, few, strict=False)]:
        assert support.distance(one, other) < TOLERANCE


@pytest.mark.parametrize("lr", [inf, nan])
def test_a_trial_that_diverges_changes_no_bit_of_the_others(lr: float) -> None:
    trials = own_trials(Residual)
    spoilt = [replace(one, lr=lr) if i == 1 else one for i, one in enumerate(trials)]
    pairs = zip(
        support.stacked(trials, torch.float32), support.stacked(spoilt, torch.float32), strict=True
    )
    for i, (sound, beside) in enumerate(pairs):
        same = [torch.equal(beside[name], tensor) for name, tensor in sound.items()]
        assert all(same) == (i != 1)


@pytest.mark.parametrize(
    "arch",
    [
        "shufflenet_v2_x0_5",
        "mobilenet_v3_small",
        pytest.param("resnet18", marks=pytest.mark.slow),
        pytest.param("googlenet", marks=pytest.mark.slow),
    ],
)
def test_a_step_of_torchvisions_networks_is_their_own(arch: str) -> None:
    """Batch normalisation inside blocks, and branches; mobilenet has dropout too. More
    steps of them, on few examples, multiply rounding beyond any tolerance."""
    trials = [
        make_trial(seed=seed, model={"name": "torchvision", "arch": arch, "resize": 48})
        for seed in (0, 1)
    ]
    models = [support.build(trial, torch.float64) for trial in trials]
    network = StackedNetwork(models, torch.device("cpu"))
    owner = torch.tensor([0, 1])
    batches = [support.batch(seed, 0, torch.float64, size=8) for seed in (0, 1)]
    inputs, targets = (torch.stack(parts) for parts in zip(*batches, strict=True))
    masks = EpochDropoutMasks([0, 1], owner, 1, torch.float64)
    logits = network.forward(inputs, SharedInputs.of(owner, 2), masks)
    losses = support.losses_of(logits.flatten(0, 1), targets.flatten())
    network.backward(losses.view(logits.shape[:2]))
    for row, model in enumerate(models):
        theirs = support.with_given_masks(model)
        for part in theirs.modules():
            if isinstance(part, support.GivenMask):
                part.masks = EpochDropoutMasks([row], torch.tensor([0]), 1, torch.float64)
        support.losses_of(theirs(inputs[row]), targets[row]).mean().backward()
        gradients = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
        own = {part.name: part.of_trial(network.gradient[row]) for part in network.slices}
        assert support.distance(own, gradients) < TOLERANCE
        mine = {name: buffer[row] for name, buffer in network.buffers.items()}
        assert support.distance(mine, dict(theirs.named_buffers())) < TOLERANCE


def _in_sequence(momentum: float) -> nn.Module:
    norm = nn.BatchNorm1d(256, momentum=momentum)
    return nn.Sequential(nn.Flatten(), norm, nn.Linear(256, 3))


def _two(build: Callable[[float], nn.Module], momentum: float) -> list[nn.Module]:
    """Two models of the same values, whatever their momentum."""
    found: list[nn.Module] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(build(momentum))
    return found


@pytest.mark.parametrize("build", [Residual, _in_sequence])
@pytest.mark.parametrize("momentum", [0.1, 0.2])
def test_statistics_are_compared_before_training(
    momentum: float, build: Callable[[float], nn.Module]
) -> None:
    """A momentum changes nothing in evaluation, nor a batch's logits."""
    network = StackedNetwork(_two(build, 0.1), torch.device("cpu"))
    x = support.batch(0, 0, torch.float32)[0].unsqueeze(0)
    sharing = SharedInputs.of(torch.tensor([0, 0]), 1)
    before = {name: buffer.clone() for name, buffer in network.buffers.items()}
    expected = nullcontext() if momentum == 0.1 else pytest.raises(Unstackable, match="else")
    with expected:
        verify(network, _two(build, momentum), x, sharing)
    assert all(torch.equal(before[name], buffer) for name, buffer in network.buffers.items())
