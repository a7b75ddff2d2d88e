"""A batch of one example: refused before anything runs where the model cannot train on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.components.base import DataInfo, Model, Options, Task
from harness.core.errors import InputError
from harness.core.records import Ended, Outcome
from harness.experiment.batches import single_example_problem
from harness.experiment.loading import load
from harness.experiment.trial import Choice, Trial
from harness.sweep import main
from harness.training.data import load_splits
from harness.training.loop import train
from harness.training.setup import TrainingSetup, initial_model
from harness.training.stacked.stack import Stack
from harness.tuning.study_plan import InvalidPoint
from tests.support import make_trial
from tests.tuning.tuning_support import plans, write

TRAINED = 1293
"""Examples of digits that are left to train on, by default: 19 batches of 68, and one."""
ONE_PIXEL: dict[str, Any] = {"name": "digits", "size": 2}
"""Images of which the pooling of bn_cnn leaves one pixel."""
NORMALISED: dict[str, Any] = {"name": "bn_cnn", "first": 2, "second": 2}


def _write(folder: Path, **fields: Any) -> Path:
    trial = {"optimizer": "sgd", "lr": 0.1, "epochs": 1} | fields
    path = folder / "mine.yaml"
    path.write_text(f"trial: {trial}\n".replace("None", "null"))
    return path


def _fails_in_training(trial: Trial, data_root: Path) -> bool:
    """Slow and right: runs the model on every size of batch of an epoch."""
    data = load_splits(trial, data_root, torch.device("cpu"))
    model = initial_model(trial, data).train()
    sizes = {len(targets) for _, targets in data.train.batches(trial.batch_size)}
    inputs, _ = next(iter(data.train.batches(max(sizes))))
    try:
        for size in sizes:
            model(inputs[:size])
    except ValueError:
        return True
    return False


@given(
    model=st.sampled_from([NORMALISED, {"name": "mlp", "hidden": [4]}]),
    size=st.sampled_from([2, 3, 4]),
    limit=st.integers(20, 40),
    batch_size=st.integers(1, 12),
    val_fraction=st.sampled_from([0.0, 0.1, 0.3]),
)
@settings(max_examples=30)
def test_a_file_is_refused_exactly_where_training_would_fail(
    model: Any,
    size: int,
    limit: int,
    batch_size: int,
    val_fraction: float,
    tmp_path_factory: pytest.TempPathFactory,
    data_root: Path,
) -> None:
    fields: dict[str, Any] = {
        "dataset": {"name": "digits", "size": size, "limit": limit},
        "model": model,
        "batch_size": batch_size,
        "val_fraction": val_fraction,
    }
    path = _write(tmp_path_factory.mktemp("file"), **fields)
    try:
        load(path, data_root=data_root)
    except InputError as error:
        assert "mine.yaml:1: trial.batch_size: bn_cnn" in str(error)  # noqa: PT017
        refused = True
    else:
        refused = False
    assert refused == _fails_in_training(make_trial(**fields), data_root)


@pytest.mark.parametrize(
    ("batch_size", "last", "hint"),
    [(1, "one", "batch_size: 3"), (68, "68, the last of one", "batch_size: 69")],
)
def test_the_message_names_the_model_the_layer_and_a_way_out(
    batch_size: int,
    last: str,
    hint: Any,
    workspace: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _write(workspace, dataset=ONE_PIXEL, model="bn_cnn", batch_size=batch_size)
    assert main([str(path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert f"bn_cnn cannot train on {TRAINED} examples in batches of {last}" in error
    assert "its layer 2 (BatchNorm2d) cannot normalise over one value" in error
    assert hint in error
    assert main([str(path), "--dry-run", "trial.batch_size=69"]) == 0


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "resnet18"])
@pytest.mark.parametrize(("batch_size", "refused"), [(68, True), (1, True), (64, False)])
def test_torchvision_models_are_refused_too(
    arch: str, batch_size: int, refused: bool, tmp_path: Path, data_root: Path
) -> None:
    model = {"name": "torchvision", "arch": arch, "resize": None}
    path = _write(tmp_path, dataset={"name": "digits"}, model=model, batch_size=batch_size)
    if not refused:
        load(path, data_root=data_root)
        return
    with pytest.raises(InputError, match=r"torchvision.* its layer network\..*BatchNorm2d"):
        load(path, data_root=data_root)


def test_one_training_example_has_no_batch_size_as_its_way_out(
    tmp_path: Path, data_root: Path
) -> None:
    dataset = {**ONE_PIXEL, "limit": 3, "test_fraction": 0.5}
    path = _write(tmp_path, dataset=dataset, model="bn_cnn", batch_size=64, val_fraction=0.0)
    with pytest.raises(InputError, match="more examples, or larger images"):
        load(path, data_root=data_root)


class _Instances(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.nn.functional.instance_norm(x).flatten(1)
        return out


@pytest.mark.parametrize(
    ("build", "hint"),
    [
        (lambda *_: _Instances(), "larger images"),
        (lambda *_: torch.nn.Sequential(torch.nn.GroupNorm(3, 3)), "batch_size: 69"),
        (lambda *_: torch.nn.Sequential(torch.nn.LayerNorm([3, 1, 1])), None),
        (lambda *_: torch.nn.BatchNorm2d(3).eval().train(False), "batch_size: 69"),
    ],
    ids=["instance norm", "group norm", "layer norm", "batch norm"],
)
def test_other_normalisations_are_refused_as_torch_refuses_them(build: Any, hint: Any) -> None:
    """On images of one pixel, whatever the way out."""
    model = Choice(Model(name="mine", description="", reference="", build=build), Options())
    info = DataInfo(Task.MULTICLASS, (3, 1, 1), ("a", "b", "c"))
    problem = single_example_problem(model, info, TRAINED, 68)
    assert (hint in problem.hint) if hint and problem else (hint is None and problem is None)


def test_a_model_that_is_evaluated_on_one_example_trains(data_root: Path) -> None:
    """With statistics of training, one value is normalised as any other. 360 = 359 + 1."""
    trial = make_trial(dataset=ONE_PIXEL, model=NORMALISED, eval_batch_size=359, epochs=1)
    *_, ended = train(TrainingSetup(trial, data_root))
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DONE


def test_a_trial_and_a_stack_say_it_before_their_first_batch(data_root: Path) -> None:
    """Such as those of a data set whose size is known only after loading."""
    trial = make_trial(dataset=ONE_PIXEL, model=NORMALISED, batch_size=68)
    with pytest.raises(InputError, match="cannot normalise over one value"):
        TrainingSetup(trial, data_root)
    with pytest.raises(InputError, match="cannot normalise over one value"):
        Stack([("a", trial), ("b", replace(trial, lr=0.2))], data_root, torch.device("cpu"))


def test_a_search_leaves_such_points_out(workspace: Path, data_root: Path) -> None:
    content = (
        "trial: {dataset: {name: digits, size: 2}, model: bn_cnn, optimizer: sgd, lr: 0.1}\n"
        "search: {trials: 2, space: {batch_size: [67, 68]}, sampler: random}\n"
    )
    (study,) = plans(write(workspace, content), data_root)
    assert study.allowed_points == [{"batch_size": 67}]
    with pytest.raises(InvalidPoint, match="cannot normalise over one value"):
        study.trial({"batch_size": 68})
