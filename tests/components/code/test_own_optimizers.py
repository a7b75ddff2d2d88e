"""Optimizers of a user's own and of packages: what they are given, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.components.base import DecayOptions, Optimizer
from harness.components.code.adapters import make_component
from harness.components.code.signatures import option_values
from harness.components.code.source import UserCode
from harness.components.registry import activate, refer
from harness.core.errors import InputError
from harness.core.seeding import host_random_states
from harness.experiment.trial import Choice
from harness.training.loop import training_step
from harness.training.optimizer import TrialOptimizer
from harness.training.setup import TrainingSetup
from tests.support import make_trial


def component(target: Any) -> Optimizer:
    made = make_component("optimizers", target.__name__, target, "")
    assert isinstance(made, Optimizer)
    return made


def chosen(target: Any, **options: Any) -> Choice[Optimizer]:
    made = component(target)
    return Choice(made, made.options.model_validate(options))


def built(target: Any, lr: float = 0.1, **options: Any) -> torch.optim.Optimizer:
    choice = chosen(target, **options)
    return TrialOptimizer(choice, nn.Linear(2, 2).named_parameters(), lr).torch


class Plain(torch.optim.SGD):
    """A class as torch's are."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, foreach=None, maximize=False):
        super().__init__(params, lr=lr, weight_decay=weight_decay)


def by_name(named_parameters, lr: float, scale: float = 2.0):
    names = [name for name, _ in named_parameters]
    return (
        torch.optim.SGD([{"params": [p]} for _, p in named_parameters], lr=scale * lr)
        if ("bias" in names or "0.bias" in names)
        else None
    )


def both(params, named_parameters, learning_rate):
    assert [id(p) for p in params] == [id(p) for _, p in named_parameters]
    return torch.optim.SGD(params, lr=learning_rate)


def by_position(*everything):
    [parameters] = everything
    return torch.optim.SGD(parameters, lr=0.3)


def without_rate(params):
    return torch.optim.SGD(params, lr=0.7)


class Wrapped:
    """Derives from nothing, and passes everything on."""

    def __init__(self, params, lr):
        self.inner = torch.optim.SGD(params, lr=lr)

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)

    def step(self, closure=None):
        self.inner.step()


@pytest.mark.parametrize(
    ("target", "options", "rates"),
    [
        (Plain, {}, [0.1]),
        (by_name, {"scale": 3.0}, [pytest.approx(0.3)] * 2),
        (both, {}, [0.1]),
        (by_position, {}, [0.3]),
        (without_rate, {}, [0.7]),
        (Wrapped, {}, [0.1]),
    ],
)
def test_what_is_asked_for_is_given(target, options, rates) -> None:
    assert [group["lr"] for group in built(target, **options).param_groups] == rates


def test_a_schedule_reaches_an_optimizer_that_takes_no_rate() -> None:
    optimizer = TrialOptimizer(chosen(without_rate), nn.Linear(2, 2).named_parameters(), 0.1)
    optimizer.set_lr(0.05)
    assert optimizer.torch.param_groups[0]["lr"] == pytest.approx(0.35)


def test_an_implementation_is_no_option_and_decay_has_exceptions() -> None:
    options = component(Plain).options
    assert set(options.model_fields) == {"weight_decay", "no_decay"}
    assert issubclass(options, DecayOptions)
    assert "no_decay" not in component(by_name).options.model_fields
    kept = {"weight_decay": 0.2, "no_decay": ("bias",)}
    choice = chosen(Plain, weight_decay=0.2, no_decay=["bias"])
    assert option_values(choice.options) == kept
    optimizer = TrialOptimizer(choice, nn.Linear(2, 2).named_parameters(), 0.1, {"bias"}).torch
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


class NeedsModel(torch.optim.SGD):
    def __init__(self, model, lr):
        super().__init__(model.parameters(), lr=lr)


class NeedsClass(torch.optim.SGD):
    def __init__(self, params, base_optimizer: type[torch.optim.Optimizer], lr=0.1):
        super().__init__(params, lr=lr)


def needs_function(params, how: Callable[[int], int], lr=0.1):
    return torch.optim.SGD(params, lr=lr)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (NeedsModel, r"test_own_optimizers.py:\d+: NeedsModel needs model, and takes no `params`"),
        (NeedsClass, r"NeedsClass needs 'base_optimizer', which an experiment file cannot write"),
        (needs_function, r"needs_function needs 'how'"),
        (lambda: None, r"takes no `params`"),
    ],
)
def test_what_nobody_can_give_is_refused(target, message) -> None:
    with pytest.raises(InputError, match=message):
        component(target)


def nothing(params, lr):
    pass


def a_list(params, lr):
    return list(params)


def raising(params, lr):
    raise RuntimeError("wants\nmore")


class Matrices(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"only matrices, not {p.ndim} dimensions")


class SecondOrder(torch.optim.SGD):
    def step(self, closure=None):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        torch.autograd.grad(sum(g.square().sum() for g in gradients), gradients)


class Ranged(torch.optim.SGD):
    def __init__(self, params, lr, rho: float = 0.5):
        if not 0 < rho < 1:
            raise ValueError(f"rho must lie between 0 and 1, not {rho}")
        super().__init__(params, lr=lr)


class Open(torch.optim.SGD):
    def __init__(self, params, lr, **kwargs):
        super().__init__(params, lr=lr)
        self.cautious = kwargs.get("cautious", False)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (raising, {}, r"raising: wants \(test_own_optimizers.py:\d+\)"),
        (Matrices, {}, r"Matrices: only matrices, not 1 dimensions \(test_own_optimizers.py:\d+\)"),
        (SecondOrder, {}, r"SecondOrder: it differentiates gradients again"),
        (Ranged, {"rho": 1.5}, r"Ranged: rho must lie between 0 and 1, not 1.5"),
        (Open, {"cau" + "tios": True}, r"Open does not read an option"),
        (torch.optim.SparseAdam, {}, r"SparseAdam does not support dense gradients"),
    ],
)
def test_what_does_not_work_is_refused_before_training(target, options, message) -> None:
    with pytest.raises(ValidationError, match=message):
        chosen(target, **options)


@pytest.mark.parametrize("target", [nothing, a_list])
def test_a_function_that_returns_no_optimizer(target) -> None:
    with pytest.raises(InputError, match=r"test_own_optimizers.py:\d+: .*not a torch.optim.Opt"):
        chosen(target)


def test_an_option_that_the_class_reads_by_keyword() -> None:
    assert built(Open, cautious=True).cautious is True  # type: ignore[attr-defined]


def unbounded(params, lr, growth: float = float("inf"), least: float = -float("inf")):
    assert growth > 0
    return torch.optim.SGD(params, lr=lr, weight_decay=min(growth, 9.0), momentum=max(least, 0.0))


def test_an_infinite_default_is_null_in_files_and_ids() -> None:
    assert chosen(unbounded).identity() == {"name": "unbounded", "growth": None, "least": None}
    assert built(unbounded).param_groups[0]["weight_decay"] == 9.0
    assert built(unbounded, growth=1.5).param_groups[0]["weight_decay"] == 1.5


class Sharp(torch.optim.SGD):
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("wants a closure")
        closure()
        super().step()


class NoDefault(torch.optim.SGD):
    def step(self, closure):  # type: ignore[override]
        closure()
        super().step()


def drawing(draw: Callable[[], object]) -> Any:
    class Drawing(torch.optim.SGD):
        def step(self, closure=None):
            draw()
            super().step()

    return Drawing


@pytest.mark.parametrize(
    ("target", "needs_closure", "alone"),
    [
        (Plain, False, ""),
        (torch.optim.AdamW, False, ""),
        (Sharp, True, "several times"),
        (NoDefault, True, "several times"),
        (torch.optim.LBFGS, True, "several times"),
        (drawing(lambda: torch.rand(1)), False, "draws random numbers"),
        (drawing(random.random), False, "draws random numbers"),
        (drawing(np.random.random), False, "draws random numbers"),
    ],
)
def test_what_it_wants_is_observed(target, needs_closure, alone) -> None:
    before = (*torch.get_rng_state().tolist(), *host_random_states().values())
    choice = chosen(target)
    assert choice.component.needs_closure(choice.options) is needs_closure
    assert alone in choice.component.one_by_one(choice.options)
    assert bool(alone) == bool(choice.component.one_by_one(choice.options))
    after = (*torch.get_rng_state().tolist(), *host_random_states().values())
    assert after == before, "observing draws nothing that others see"


def packaged(reference: str, **options: Any) -> Choice[Any]:
    pytest.importorskip(reference.partition(":")[0], reason="the extra optimizers is not installed")
    activate(UserCode(Path()))
    try:
        refer("optimizers", reference)
        return Choice.of("optimizers", {"name": reference, **options})
    finally:
        activate(None)


def test_schedule_free_is_trained_as_by_its_authors(data_root: Path) -> None:
    """Their README's loop: optimizer.train(), steps, optimizer.eval()."""
    from dataclasses import replace

    choice = packaged("schedulefree:AdamWScheduleFree", weight_decay=0.1)
    trial = replace(make_trial(lr=0.01), optimizer=choice)
    ours, theirs = (TrainingSetup(trial, data_root) for _ in range(2))
    schedulefree = pytest.importorskip("schedulefree")

    plain = schedulefree.AdamWScheduleFree(theirs.model.parameters(), lr=0.01, weight_decay=0.1)
    plain.train()
    for step, (inputs, targets) in enumerate(ours.data.train.batches(256)):
        training_step(ours, step, inputs, targets)
        plain.zero_grad()
        theirs.loss(theirs.model(inputs), targets).mean().backward()
        plain.step()
    plain.eval()
    trained = [p.detach().clone() for p in ours.model.parameters()]
    with ours.optimizer.evaluation_weights():
        for mine, expected in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            assert torch.equal(mine, expected)
    for now, before in zip(ours.model.parameters(), trained, strict=True):
        assert torch.equal(now, before)


@pytest.mark.parametrize(
    "reference",
    ["lion_pytorch:Lion", "timm.optim:Lamb", "pytorch_optimizer:SOAP", "pytorch_optimizer:Prodigy"],
)
def test_optimizers_of_packages(reference: str, data_root: Path) -> None:
    from dataclasses import replace

    choice = packaged(reference, no_decay=["bias"])
    trial = replace(make_trial(lr=0.01), optimizer=choice)
    setup = TrainingSetup(trial, data_root)
    before = [p.detach().clone() for p in setup.model.parameters()]
    losses = []
    for step, (inputs, targets) in enumerate(setup.data.train.batches(256)):
        losses.append(float(training_step(setup, step, inputs, targets)[1].mean()))
    assert all(np.isfinite(losses))
    assert len(setup.optimizer.torch.param_groups) == 2
    for now, start in zip(setup.model.parameters(), before, strict=True):
        assert not torch.equal(now, start)


@pytest.mark.slow
def test_the_page_says_which_optimizers_of_pytorch_optimizer_resume() -> None:
    from importlib.metadata import version

    from checks import optimizer_table

    pytest.importorskip("pytorch_optimizer", reason="the extra optimizers is not installed")
    page = optimizer_table.PAGE.read_text()
    if f"Version {version('pytorch_optimizer')}, " not in page:
        pytest.skip("the page is of another version of pytorch-optimizer")
    found = optimizer_table.BLOCK.search(page)
    assert found
    assert found[0] == found[1] + optimizer_table.text() + found[2]
