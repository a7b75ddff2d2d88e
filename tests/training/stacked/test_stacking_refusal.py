"""What a dry run says of a model of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from harness.execution.stacking import plan_stacks
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice, Fingerprint, Trial
from harness.training.stacked.compatibility import stacking_refusal
from tests.support import make_trial


class Own(nn.Module):
    """Two layers and something between them."""

    def __init__(self, features: int, outputs: int, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between = nn.Linear(features, 4), between
        self.last = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.between(self.first(x.flatten(1))))
        return out


def trial_of(between: Any, **fields: Any) -> Trial:
    trial = make_trial(**fields)
    component = replace(
        trial.model.component,
        name="own",
        build=lambda _, info, outputs: Own(info.features, outputs, between()),
    )
    return replace(trial, model=Choice(component, trial.model.options))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.Tanh, None),
        (lambda: nn.BatchNorm1d(4), None),
        (lambda: nn.Dropout(0.5), None),
        (lambda: nn.LSTM(4, 4), "model own: between: torch.vmap does not support LSTM"),
        (lambda: 1 / 0, None),
    ],
)
def test_reasons_found_in_the_layers(between: Any, reason: str | None, data_root: Path) -> None:
    assert stacking_refusal(trial_of(between), data_root) == reason


def test_trials_of_a_refused_model_train_one_by_one(data_root: Path) -> None:
    trials = [trial_of(lambda: nn.GRU(4, 4), seed=0), make_trial(seed=0)]
    planned = [
        PlannedTrial(replace(one, seed=seed), f"{i}{seed}", "c", "t", {}, Fingerprint("f"))
        for i, one in enumerate(trials)
        for seed in (0, 1)
    ]
    found = plan_stacks(planned, 8).without_refused(
        lambda trial: stacking_refusal(trial, data_root)
    )
    assert found.stacks == (tuple(planned[2:]),)
    assert [one for one, _ in found.singles] == planned[:2]
    assert "one by one: 2 trials: model own: between: torch.vmap does not" in "\n".join(
        found.lines()
    )
