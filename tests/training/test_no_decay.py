"""`no_decay`: which parameters it means, and that they alone go without weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.components.base import DecayOptions, NamedParameter, Optimizer, Options
from harness.components.registry import components, find
from harness.core.errors import InputError
from harness.experiment.trial import NO_FINGERPRINT, Choice, make_trial_id
from harness.training.optimizer import TrialOptimizer, undecayed_names
from harness.training.weight_decay import undecayed
from tests.support import make_trial

WITH_DECAY = [n for n, c in components("optimizers").items() if issubclass(c.options, DecayOptions)]
OF_TORCH = ["ASGD", "Adadelta", "Adafactor", "Adamax"]


class RMSNorm(nn.Module):
    """A normalisation of a user's own, which derives from none of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))


class Normal(nn.Module):
    """No normalisation, whatever its name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.norm_of_nothing = nn.Parameter(torch.ones(3))


class Every(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.Linear(3, 3)
        self.batch = nn.BatchNorm2d(3)
        self.instance = nn.InstanceNorm1d(3, affine=True)
        self.layer = nn.LayerNorm(3, bias=False)
        self.group = nn.GroupNorm(1, 3)
        self.own = RMSNorm()
        self.normal = Normal()
        self.lstm = nn.LSTM(3, 3)
        self.attention = nn.MultiheadAttention(3, 1)
        self.table = nn.Embedding(4, 3)
        self.bag = nn.EmbeddingBag(4, 3)
        self.bias_net = nn.Linear(3, 3, bias=False)


BIASES = {
    "linear.bias",
    "norm.bias",
    "batch.bias",
    "instance.bias",
    "group.bias",
    "lstm.bias_ih_l0",
    "lstm.bias_hh_l0",
    "attention.in_proj_bias",
    "attention.out_proj.bias",
}
NORMS = {
    *("batch.weight", "batch.bias", "instance.weight", "instance.bias"),
    *("layer.weight", "group.weight", "group.bias", "own.gain"),
}
EMBEDDINGS = {"table.weight", "bag.weight"}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), set()),
        (("bias",), BIASES),
        (("norm",), NORMS),
        (("embedding",), EMBEDDINGS),
        (("bias", "norm", "embedding"), BIASES | NORMS | EMBEDDINGS),
    ],
)
def test_kinds_go_by_the_type_of_the_module(kinds: tuple[str, ...], expected: set[str]) -> None:
    assert undecayed(Every(), kinds) == expected


def test_a_shared_parameter_has_the_kinds_of_both_places() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 4, bias=False), "table": nn.Embedding(4, 3)})
    model["table"].weight = model["head"].weight
    assert undecayed(model, ("embedding",)) == {"head.weight"}


def driven(name: str, model: nn.Module, **options: Any) -> TrialOptimizer:
    choice = Choice.of("optimizers", {"name": name, "weight_decay": 0.5, **options})
    return TrialOptimizer(choice, model.named_parameters(), 0.1, undecayed_names(choice, model))


@pytest.mark.parametrize("name", [*WITH_DECAY, *OF_TORCH])
def test_parameter_groups_differ_in_weight_decay_alone(name: str) -> None:
    model = Every()
    groups = driven(name, model, no_decay=["bias", "norm"]).torch.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert set(groups[1]["param_names"]) == BIASES | NORMS
    by_name = dict(model.named_parameters())
    for group in groups:
        assert [id(p) for p in group["params"]] == [id(by_name[n]) for n in group["param_names"]]
    assert len(groups[0]["params"]) + len(groups[1]["params"]) == len(by_name)
    differing = {key for key in groups[0] if groups[0][key] != groups[1][key]}
    assert differing == {"weight_decay", "params", "param_names"}


@pytest.mark.parametrize("name", [*WITH_DECAY, *OF_TORCH])
def test_one_step_is_that_of_groups_made_by_hand(name: str) -> None:
    model, other = (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)) for _ in range(2))
    other.load_state_dict(model.state_dict())
    ours = driven(name, model, no_decay=["bias", "norm"]).torch
    kept = driven(name, other).torch
    group = {k: v for k, v in kept.param_groups[0].items() if k not in ("params", "param_names")}
    rest = [other[0].bias, other[1].weight, other[1].bias]
    cls: Any = type(kept)
    theirs = cls(
        [{**group, "params": [other[0].weight]}, {**group, "params": rest, "weight_decay": 0.0}],
        lr=0.1,
    )
    for _ in range(3):
        for network, optimizer in ((model, ours), (other, theirs)):
            optimizer.zero_grad()
            network(torch.arange(6.0).view(2, 3)).square().sum().backward()
            optimizer.step()
    for mine, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, expected)


def test_the_id_is_that_of_before_at_the_default_and_knows_no_order() -> None:
    def trial_id(**options: Any) -> str:
        trial = make_trial(optimizer={"name": "adamw", **options})
        return make_trial_id(trial.identity(), NO_FINGERPRINT)

    assert trial_id() == trial_id(no_decay=[])
    assert "no_decay" not in make_trial(optimizer="adamw").identity()["optimizer"]
    assert trial_id(no_decay=["norm", "bias", "norm"]) == trial_id(no_decay=["bias", "norm"])
    assert len({trial_id(), trial_id(no_decay=["bias"]), trial_id(no_decay=["norm"])}) == 3


@pytest.mark.parametrize("value", [["biases"], "bias", ["bias", 1], [["bias"]], None])
def test_other_kinds_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        find("optimizers", "adamw").options.model_validate({"no_decay": value})


@pytest.mark.parametrize("name", ["Rprop", "LBFGS"])
def test_an_optimizer_without_weight_decay_has_no_such_option(name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        find("optimizers", name).options.model_validate({"no_decay": ["bias"]})


def test_groups_without_weight_decay_are_an_error_and_not_ignored() -> None:
    class Claims(DecayOptions):
        weight_decay: float = 0.0

    def build(_: Options, named: Iterable[NamedParameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Rprop([parameter for _, parameter in named], lr=lr)

    record = Optimizer(name="claims", description="", reference="", options=Claims, build=build)
    choice: Choice[Optimizer] = Choice(record, Claims(no_decay=("bias",)))
    with pytest.raises(InputError, match="claims: no_decay has no effect"):
        TrialOptimizer(choice, nn.Linear(1, 1).named_parameters(), 0.1, {"bias"})


def test_of_a_real_model_only_what_is_named_decays(data_root: Path) -> None:
    from harness.training.setup import TrainingSetup

    def parts(**options: Any) -> TrainingSetup:
        optimizer = {"name": "adamw", "weight_decay": 0.3, **options}
        model = {"name": "bn_cnn", "first": 2, "second": 2}
        return TrainingSetup(make_trial(model=model, optimizer=optimizer), data_root)

    chosen = parts(no_decay=["bias", "norm"])
    [decayed, rest] = chosen.optimizer.torch.param_groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in rest["params"])
    assert len(parts().optimizer.torch.param_groups) == 1
