"""Experiment files with a training loop of one's own: what becomes optional, and what ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import InputError
from harness.experiment.experiment import Experiment
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.trial import NO_LR, Trial

CODE = """
import harness
@harness.training_loop
def loop(trial, latent: int = 16):
    yield {"val/reward": 1.0}

@harness.training_step
def step(model, batch, generator):
    ...
"""
Read = Callable[[str], Experiment]
GIVEN = "metric: val/reward\ndirection: max\n"
ORDINARY = "model: [mlp], optimizer: [sgd], lr: [0.1]"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "own.py").write_text(CODE)

    def read(text: str) -> Experiment:
        path = tmp_path / "x.yaml"
        path.write_text("code: own.py\n" + text)
        return load(path)

    return read


def problem(read: Read, text: str) -> str:
    with pytest.raises(InputError) as error:
        read(text)
    (one,) = error.value.problems
    return str(one).replace("\n    ", " | ")


def test_all_else_is_optional(read: Read) -> None:
    experiment = read("trial: {training_loop: loop}\n" + GIVEN)
    (planned,) = make_plan(experiment).trials
    trial = planned.trial
    assert [trial.dataset.name, trial.model.name, trial.optimizer.name] == ["none"] * 3
    assert trial.lr == NO_LR
    assert (experiment.metric, experiment.direction) == ("val/reward", "max")
    assert planned.name == "loop seed=0"
    assert planned.fingerprint.data == ""
    assert Trial.of(trial.resolved()) == trial


def test_its_options_are_axes(read: Read) -> None:
    text = "grid: {training_loop: [loop], training_loop.latent: [16, 64], seed: [0, 1]}\n" + GIVEN
    plan = make_plan(read(text))
    assert len({planned.trial_id for planned in plan.trials}) == 4
    latents = [planned.trial.training_loop.options.latent for planned in plan.trials]  # type: ignore[attr-defined]
    assert latents == [16, 16, 64, 64]


def test_a_grid_may_have_trials_with_and_without_one(read: Read) -> None:
    text = f"trial: {{dataset: digits}}\ngrid: [{{training_loop: [loop]}}, {{{ORDINARY}}}]"
    experiment = read(text)
    own, ordinary = (planned.trial for planned in make_plan(experiment).trials)
    assert own.has_own_loop
    assert own.loss.name == "cross_entropy"
    assert not ordinary.has_own_loop
    assert experiment.metric == "val/accuracy"


def test_code_is_a_part_of_its_id_and_a_trial_without_one_keeps_its_own(
    read: Read, tmp_path: Path
) -> None:
    text = "trial: {training_loop: loop}\n" + GIVEN
    before = make_plan(read(text)).trials[0].trial_id
    (tmp_path / "own.py").write_text(CODE.replace("1.0", "2.0"))
    assert make_plan(read(text)).trials[0].trial_id != before
    ordinary = "trial: {dataset: digits, model: mlp, optimizer: sgd, lr: 0.1}"
    (planned,) = make_plan(read(ordinary)).trials
    (same,) = make_plan(read(ordinary[:-1] + ", training_loop: none}")).trials
    assert planned.trial_id == same.trial_id
    assert "training_loop" not in planned.trial.identity()
    assert "training_loop" not in planned.trial.resolved()
    assert "training_loop" not in planned.trial.flat()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("trial: {training_loop: loop}", "metric is missing: a training loop's trials are ranked"),
        ("trial: {training_loop: loop}\nmetric: val/reward", "x.yaml:3: metric: no metric"),
        (
            "trial: {training_loop: loop}\nmetric: val/loss\ndirection: max",
            "x.yaml:4: direction: lower values of val/loss are better",
        ),
        (
            "trial: {training_loop: loop}\nmetric: val/reward\ndirection: up",
            "x.yaml:4: direction: must be one of 'max' or 'min'",
        ),
        (
            "trial: {training_loop: loop}\nsearch: {space: {training_loop.latent: [1, 2]}, "
            "also: [parameters]}\n" + GIVEN,
            "a training loop's parameters are not known",
        ),
        (
            "trial: {training_loop: loop, training_step: step}\n" + GIVEN,
            "takes its own steps, so that this is not used",
        ),
        ("trial: {training_loop: lop}\n" + GIVEN, "did you mean 'loop'?"),
        ("trial: {training_loop: {name: loop, latnt: 3}}\n" + GIVEN, "did you mean 'latent'?"),
        ("trial: {training_loop: loop, model: mlp}\n" + GIVEN, "model: is built for a data set"),
        (
            f"trial: {{dataset: digits}}\n{GIVEN}grid: [{{training_loop: [loop]}}, {{{ORDINARY}}}]",
            "only a training loop yields val/reward",
        ),
        (
            "trial: {dataset: digits, model: none, optimizer: sgd, lr: 0.1}",
            "x.yaml:2: model is missing: only a training_loop does without",
        ),
        (
            "trial: {dataset: digits, optimizer: sgd, lr: 1}\ngrid: {training_loop: [none, loop]}",
            "model is missing: only a training_loop does without",
        ),
    ],
)
def test_what_is_wrong_is_told(read: Read, text: str, what: str) -> None:
    assert what in problem(read, text)
