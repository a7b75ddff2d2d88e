"""Kinds of modules that users write: each stacks, and equals itself alone, or says why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm as spectral_hook
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from harness.core.records import Measured
from harness.experiment.trial import Choice, Trial
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.forward_pass import Unstackable
from tests.support import make_trial
from tests.training.stacked.stacked_support import train_records


class Net(nn.Module):
    """4 features to 3 classes, with something between two layers."""

    def __init__(self, between: Any = None, second: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), second or nn.Linear(4, 3)
        self.between = between if isinstance(between, nn.Module) else None
        self.function = None if isinstance(between, nn.Module) else between

    def forward(self, x: Tensor) -> Any:
        x = self.first(x)
        x = self.between(x) if self.between is not None else x
        return self.second(self.function(x) if self.function is not None else x)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


class Running(nn.Module):
    """A buffer that it changes in place."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x - self.mean


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(4, 4)


class Tied(Net):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4))
        assert self.between is not None
        self.between.weight = self.first.weight


class Pair(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Mapping(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x)}


KINDS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "in-place buffer": (lambda: Net(Running()), ""),
    "batch norm": (lambda: Net(nn.BatchNorm1d(4)), ""),
    "unused parameters": (Unused, ""),
    "weight norm": (lambda: Net(second=weight_norm(nn.Linear(4, 3))), ""),
    "spectral norm": (lambda: Net(second=spectral_norm(nn.Linear(4, 3))), "torch cannot stack it"),
    "spectral norm by a hook": (lambda: Net(second=spectral_hook(nn.Linear(4, 3))), "."),
    "tied weights": (Tied, "uses one parameter in two places"),
    "custom autograd function": (lambda: Net(Doubled.apply), "vmap"),
    "control flow": (lambda: Net(lambda x: x if x.sum() > 0 else -x), "control flow"),
    ".item()": (lambda: Net(lambda x: x * x.max().item()), "reads a number"),
    "noise of its own": (lambda: Net(lambda x: x + torch.randn_like(x)), "draws random numbers"),
    "tuple": (Pair, "it returns a tuple"),
    "dict": (Mapping, "it returns a dict"),
    "recurrent": (lambda: Net(lambda x: x, nn.LSTM(4, 3)), "does not support LSTM"),
    "lazy": (lambda: Net(second=nn.LazyLinear(3)), ""),
}


def trials_of(build: Callable[[], nn.Module]) -> list[tuple[str, Trial]]:
    first = make_trial(dataset="iris", epochs=2, lr=0.05)
    component = replace(first.model.component, name="kind", build=lambda *_: build())
    first = replace(first, model=Choice(component, first.model.options))
    return [(str(seed), replace(first, seed=seed)) for seed in (0, 1)]


def losses(records: Any) -> list[float]:
    return [
        value
        for record in records
        if isinstance(record, Measured)
        for name, value in record.values.items()
        if name.endswith("/loss")
    ]


@pytest.mark.parametrize(("build", "reason"), KINDS.values(), ids=KINDS)
def test_a_kind_stacks_as_alone_or_says_why_not(
    build: Callable[[], nn.Module], reason: str, data_root: Path
) -> None:
    trials = trials_of(build)
    if reason:
        with pytest.raises(Unstackable, match=re.escape(reason)):
            list(train_records(trials, data_root))
        return
    stacked = list(train_records(trials, data_root))
    for key, trial in trials:
        alone = losses(train(TrainingSetup(trial, data_root)))
        assert losses(r for of, r in stacked if of == key) == pytest.approx(alone, rel=1e-3)
