"""Optimizers that want more than `step()` after the backward pass: closures, train() and eval()."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from harness.components.base import NamedParameter, Optimizer, Options
from harness.core.records import Ended, Measured
from harness.core.seeding import generator, stream_seed
from harness.experiment.trial import Choice, Trial
from harness.training.checkpoint import Checkpoint, CheckpointPolicy
from harness.training.loop import train, training_step
from harness.training.optimizer import TrialOptimizer
from harness.training.setup import TrainingSetup
from tests.resume_support import assert_same, comparable
from tests.support import make_trial
from tests.training.test_resume import check

SMALL: dict[str, Any] = {"batch_size": 256, "epochs": 3, "metrics": ["accuracy"]}
DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.3}
BATCH_NORM = {"name": "bn_cnn", "first": 2, "second": 2}


class SAM(torch.optim.SGD):
    """Foret et al. (2021): ascends to θ + ρ∇/‖∇‖, and descends from θ by the gradient there. As in
    the usual packages, the first gradient is there already when `step` is called."""

    rho = 0.5

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        saved = [p.clone() for p in parameters]
        for p in parameters:
            p.add_(self.rho * p.grad / norm)
        closure()
        for p, value in zip(parameters, saved, strict=True):
            p.copy_(value)
        super().step()


class Averaged(torch.optim.SGD):
    """SGD that evaluates the mean of its iterates, as schedule-free optimizers do."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.steps = 0
        self.training = False

    def _swap(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if "mean" in self.state[p]:
                    kept = p.detach().clone()
                    p.data.copy_(self.state[p]["mean"])
                    self.state[p]["mean"] = kept

    def train(self) -> None:
        if not self.training:
            self._swap()
            self.training = True

    def eval(self) -> None:
        if self.training:
            self._swap()
            self.training = False

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if not self.training:
            raise RuntimeError("not in train mode")
        super().step()
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.detach(), 1 / self.steps)


def chosen(cls: Any, needs_closure: bool = False) -> Choice[Optimizer]:
    def build(_: Options, named: Iterable[NamedParameter], lr: float) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = cls([parameter for _, parameter in named], lr=lr)
        return optimizer

    record = Optimizer(
        name=cls.__name__.lower(),
        description="",
        reference="",
        build=build,
        needs_closure=lambda _: needs_closure,
    )
    return Choice(record, Options())


def trial_with(choice: Choice[Optimizer], **fields: Any) -> Trial:
    return replace(make_trial(**{**SMALL, **fields}), optimizer=choice)


LBFGS = Choice.of("optimizers", {"name": "LBFGS", "max_iter": 4})


@pytest.mark.parametrize("model", [DROPOUT, BATCH_NORM], ids=["dropout", "batch norm"])
@pytest.mark.parametrize("optimizer", ["LBFGS", "SAM", "Averaged"])
def test_resumes_to_the_bit(optimizer: str, model: dict[str, Any], data_root: Path) -> None:
    choices = {"LBFGS": LBFGS, "SAM": chosen(SAM, True), "Averaged": chosen(Averaged)}
    check(trial_with(choices[optimizer], model=model, grad_clip=1.0, lr=0.1), data_root)


def test_lbfgs_is_torchs_own_loop(data_root: Path) -> None:
    trial = trial_with(LBFGS, lr=0.5)
    ours, theirs = (TrainingSetup(trial, data_root) for _ in range(2))
    plain = torch.optim.LBFGS(theirs.model.parameters(), lr=0.5, max_iter=4)
    batches = list(ours.data.train.batches(256))
    for step, (inputs, targets) in enumerate(batches):
        _, losses = training_step(ours, step, inputs, targets)

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            plain.zero_grad()
            loss = theirs.loss(theirs.model(inputs), targets).mean()
            loss.backward()
            return loss

        first = plain.step(closure)
        assert float(losses.mean()) == pytest.approx(first.item(), rel=1e-6)
    for mine, expected in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(mine, expected)


class Counting(nn.Module):
    """Dropout and a buffer that counts the passes in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.passes = nn.Buffer(torch.zeros(()))
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.add_(1)
        mask = nn.functional.dropout(torch.ones(8), 0.5)
        self.masks.append(mask)
        logits: Tensor = self.layer(x) * mask
        return logits


def steps_of(choice: Choice[Optimizer], steps: int = 3) -> tuple[Counting, list[Tensor], Tensor]:
    """Returns the model after some steps, the losses that they return, and what the global random
    stream gives next."""
    torch.manual_seed(0)
    model = Counting()
    optimizer = TrialOptimizer(choice, model.named_parameters(), 0.1)
    recorded = []
    for _ in range(steps):

        def evaluate() -> tuple[Tensor, Tensor]:
            logits = model(torch.ones(4, 8))
            losses = logits.square().mean(1)
            losses.mean().backward()
            return logits, losses

        recorded.append(optimizer.step(evaluate, model)[1].detach())
    return model, recorded, torch.rand(3)


@pytest.mark.parametrize("choice", [LBFGS, chosen(SAM, True)], ids=["LBFGS", "SAM"])
def test_all_evaluations_of_a_batch_see_one_mask_and_count_once(choice: Choice[Optimizer]) -> None:
    model, _, after = steps_of(choice)
    plain, _, expected = steps_of(chosen(torch.optim.SGD))
    assert len(model.masks) > len(plain.masks)
    distinct = {tuple(mask.tolist()) for mask in model.masks}
    assert distinct == {tuple(mask.tolist()) for mask in plain.masks}
    assert float(model.passes) == 3
    assert torch.equal(after, expected), "later draws do not depend on how often it evaluates"


@pytest.mark.parametrize("choice", [LBFGS, chosen(SAM, True)], ids=["LBFGS", "SAM"])
def test_all_evaluations_of_a_batch_see_one_draw_of_a_training_step(
    choice: Choice[Optimizer],
) -> None:
    theta = nn.Parameter(torch.ones(3))
    optimizer = TrialOptimizer(choice, [("theta", theta)], 0.1)
    stream, expected = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    for _ in range(2):
        drawn: list[Tensor] = []

        def evaluate(drawn: list[Tensor] = drawn) -> tuple[Tensor, Tensor]:
            drawn.append(torch.rand(3, generator=stream))
            losses = (theta - drawn[-1]).square()
            losses.mean().backward()
            return losses, losses

        optimizer.step(evaluate, nn.Module(), [stream])
        assert len(drawn) > 1
        once = torch.rand(3, generator=expected)
        assert all(torch.equal(each, once) for each in drawn)
    assert torch.equal(stream.get_state(), expected.get_state()), "each batch draws once"


def test_the_loss_of_a_batch_is_that_of_the_first_evaluation() -> None:
    _, recorded, _ = steps_of(chosen(SAM, True), steps=1)
    _, expected, _ = steps_of(chosen(torch.optim.SGD), steps=1)
    assert torch.equal(recorded[0], expected[0])


def test_sam_descends_by_the_gradient_uphill() -> None:
    # f(θ) = θ²/2 from θ = 1: uphill at 1.5, so that θ becomes 1 − 0.1·1.5.
    theta = nn.Parameter(torch.tensor([1.0]))
    optimizer = TrialOptimizer(chosen(SAM, True), [("theta", theta)], 0.1)

    def evaluate() -> tuple[Tensor, Tensor]:
        loss = theta.square() / 2
        loss.sum().backward()
        return loss, loss

    optimizer.step(evaluate, nn.Module())
    assert theta.item() == pytest.approx(0.85)


def test_gradients_of_every_evaluation_are_clipped(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []

    class Watching(torch.optim.LBFGS):
        def step(self, closure: Any) -> Any:  # type: ignore[override]
            def watched() -> Any:
                loss = closure()
                gradients = [p.grad.norm() for p in self.param_groups[0]["params"]]
                norms.append(float(torch.stack(gradients).norm()))
                return loss

            return super().step(watched)  # type: ignore[no-untyped-call]

    trial = trial_with(chosen(Watching, True), grad_clip=0.01, lr=0.1)
    setup = TrainingSetup(trial, data_root)
    inputs, targets = next(setup.data.train.batches(256))
    training_step(setup, 0, inputs, targets)
    assert len(norms) > 3
    assert max(norms) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize("model", [DROPOUT, BATCH_NORM], ids=["dropout", "batch norm"])
def test_how_often_it_is_evaluated_changes_nothing(model: dict[str, Any], data_root: Path) -> None:
    def last(**fields: Any) -> Any:
        trial = trial_with(chosen(Averaged), model=model, **fields)
        items = train(TrainingSetup(trial, data_root), True)
        return comparable([item for item in items if isinstance(item, Ended)])

    assert_same(last(eval_every=1), last(eval_every=3))


def test_the_averaged_weights_are_evaluated_and_stored(data_root: Path) -> None:
    trial = trial_with(chosen(Averaged), model=BATCH_NORM, lr=0.5)
    setup = TrainingSetup(trial, data_root)
    records = list(train(setup, True, CheckpointPolicy(0)))
    ended = next(record for record in records if isinstance(record, Ended))
    assert ended.test_outputs is not None
    stored = ended.test_outputs.state_dict
    optimizer = setup.optimizer.torch
    for name, parameter in setup.model.named_parameters():
        assert torch.equal(stored[name], optimizer.state[parameter]["mean"])
        assert not torch.equal(stored[name], parameter)
    last = next(r for r in reversed(records) if isinstance(r, Measured))
    assert ended.final["test/loss"] == last.values["test/loss"]
    for item in records:
        if isinstance(item, Checkpoint):
            assert item.state["optimizer_attributes"]["training"] is True


def test_the_statistics_of_batch_norm_are_those_of_the_averaged_weights(data_root: Path) -> None:
    trial = trial_with(chosen(Averaged), model=BATCH_NORM, lr=0.5, batch_size=64)
    setup = TrainingSetup(trial, data_root)
    ended = list(train(setup, True))[-1]
    assert isinstance(ended, Ended)
    assert ended.test_outputs is not None
    by_hand = TrainingSetup(trial, data_root)
    by_hand.model.load_state_dict(ended.test_outputs.state_dict)
    order = torch.randperm(len(setup.data.train), generator=generator(0, "order", 3))
    torch.manual_seed(stream_seed(0, "dropout", 3))
    batches = by_hand.data.train.batches(64, order[: 50 * 64])
    update_bn((inputs for inputs, _ in batches), by_hand.model)
    for name, value in by_hand.model.state_dict().items():
        assert torch.equal(value, ended.test_outputs.state_dict[name]), name
    trained = dict(setup.model.named_buffers())
    stored = ended.test_outputs.state_dict
    assert any(not torch.equal(value, stored[name]) for name, value in trained.items())


def test_groups_with_rates_of_their_own_keep_their_ratio(data_root: Path) -> None:
    class TwoRates(torch.optim.SGD):
        def __init__(self, params: Any, lr: float) -> None:
            first, *others = params
            super().__init__([{"params": [first], "lr": 10 * lr}, {"params": others}], lr=lr)

    optimizer = TrialOptimizer(chosen(TwoRates), nn.Linear(2, 2).named_parameters(), 0.1)
    optimizer.set_lr(0.03)
    assert [g["lr"] for g in optimizer.torch.param_groups] == [pytest.approx(0.3), 0.03]


class Odd(torch.optim.Optimizer):
    """State in another dtype than its parameters', in nested lists, and in a plain attribute."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["half"] = torch.zeros_like(p, dtype=torch.bfloat16)
                    state["nested"] = [torch.zeros(1, dtype=torch.int64), {"seen": torch.zeros(1)}]
                state["nested"][0] += 3
                state["half"].mul_(0.9).add_(p.grad)
                p.add_(state["half"].to(p.dtype), alpha=-group["lr"] / (1 + 0.1 * self.count))
                p.sub_(1e-3 * state["nested"][0])


def test_odd_state_resumes_to_the_bit(data_root: Path) -> None:
    check(trial_with(chosen(Odd), model=DROPOUT), data_root)
