"""Models that cannot be stacked, with the reasons, found before data is read or before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.experiment.trial import Trial
from harness.training.stacked.compatibility import stacking_refusal
from harness.training.stacked.modules.forward_pass import Unstackable
from tests.training.stacked.stacked_support import train_records
from tests.training.stacked.test_stacking_refusal import trial_of


class Between(nn.Module):
    """Computes any function."""

    def __init__(self, compute: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute
        self.calls = 0
        self.counts = [1]
        self.mean = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def noise(_: nn.Module, x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


def noise_while_training(module: nn.Module, x: Tensor) -> Tensor:
    return noise(module, x) if module.training else x


def dropout_always(_: nn.Module, x: Tensor) -> Tensor:
    return functional.dropout(x)


def branch(_: nn.Module, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def number(_: nn.Module, x: Tensor) -> Tensor:
    return x * x.max().item()


def chosen(_: nn.Module, x: Tensor) -> Tensor:
    return x * x[x > 0].sum()


def count(module: Any, x: Tensor) -> Tensor:
    module.calls += 1
    return x


def remember(module: Any, x: Tensor) -> Tensor:
    mean: Tensor = 0.9 * module.mean + 0.1 * x.mean()
    module.mean = mean
    return x - mean


def count_in_a_list(module: Any, x: Tensor) -> Tensor:
    module.counts.append(1)
    return x * len(module.counts) if module.training else x


def two(trial: Trial) -> list[tuple[str, Trial]]:
    return [(str(seed), replace(trial, seed=seed)) for seed in (0, 1)]


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "noise": (noise, "draws random numbers by itself"),
    "noise in training alone": (noise_while_training, "draws random numbers by itself"),
    "dropout in evaluation": (dropout_always, "draws random numbers by itself"),
    "a branch": (branch, "depends on the values of tensors"),
    "a number": (number, "reads a number from a tensor"),
    "a choice": (chosen, "the shape of what it computes"),
    "a count": (count, "changes between.calls"),
    "a state that is no buffer": (remember, "changes between.mean"),
}


@pytest.mark.parametrize(("compute", "reason"), REFUSED.values(), ids=REFUSED)
def test_reasons(compute: Callable[[Any, Tensor], Tensor], reason: str, data_root: Path) -> None:
    """Both in a dry run and when the stack is built."""
    trial = trial_of(lambda: Between(compute))
    assert reason in str(stacking_refusal(trial, data_root))
    with pytest.raises(Unstackable, match=reason):
        train_records(two(trial), data_root)


def test_state_in_a_list_is_detected_before_training(data_root: Path) -> None:
    trial = trial_of(lambda: Between(count_in_a_list))
    assert stacking_refusal(trial, data_root) is None
    with pytest.raises(Unstackable, match="a second time"):
        train_records(two(trial), data_root)


def test_attention_with_dropout_of_its_own(data_root: Path) -> None:
    class Attention(nn.MultiheadAttention):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            out, _ = super().forward(x, x, x)
            return out

    assert stacking_refusal(trial_of(lambda: Attention(4, 1)), data_root) is None
    refused = stacking_refusal(trial_of(lambda: Attention(4, 1, dropout=0.1)), data_root)
    assert "draws random numbers by itself" in str(refused)
