"""Experiments from Python: what they take, how their faults are told, and which trials they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

import harness
from harness import search, sweep
from harness.api.experiment import Experiment
from harness.components.registry import active_code
from harness.experiment.fields import FileFields
from harness.experiment.loading import load, load_values
from harness.experiment.plan import make_plan
from tests.api.own_net import Net

TRIAL = {"dataset": "digits", "model": "mlp", "optimizer": "adamw", "lr": 0.1, "epochs": 1}


def make_net(data: harness.DataInfo) -> nn.Module:
    return Net(data, 3)


def hits(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets).float().mean())


@harness.loss
def doubled(logits: Tensor, targets: Tensor) -> Tensor:
    return 2 * nn.functional.cross_entropy(logits, targets, reduction="none")


def planned(**values: Any) -> list[tuple[str, str]]:
    """The ids and names of the trials of an experiment."""
    plan = make_plan(load_values({"name": "mine", **values}))
    return [(each.trial_id, each.name) for each in plan.trials]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in TRIAL.items() if name not in names}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("seed", range(3)),
        ("seed", (0, 1, 2)),
        ("seed", np.arange(3)),
        ("seed", [np.int64(0), np.int32(1), 2]),
        ("seed", pd.Series([0, 1, 2])),
        ("seed", (number for number in range(3))),
        ("lr", np.logspace(-3, -1, 3)),
        ("lr", [np.float64(0.001), 0.01, 0.1]),
    ],
)
def test_numbers_of_any_library_are_those_of_a_file(axis: str, values: Any) -> None:
    plain = {"seed": [0, 1, 2], "lr": [0.001, 0.01, 0.1]}[axis]
    given = planned(trial=without(axis), grid={axis: values})
    assert given == planned(trial=without(axis), grid={axis: plain})


def test_a_file_with_the_same_values_has_the_same_trials(folder: Path) -> None:
    values = {"name": "mine", "trial": TRIAL, "grid": {"seed": [0, 1]}}
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    of_file = [each.trial_id for each in make_plan(load(file)).trials]
    assert [trial_id for trial_id, _ in planned(**values)] == of_file


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Net, "Net"),
        ({"name": Net, "width": 16}, "Net(width=16)"),
        (partial(Net, width=16), "Net(width=16)"),
        ({"name": partial(Net, width=16)}, "Net(width=16)"),
        (make_net, "make_net"),
    ],
)
def test_an_object_stands_for_its_name(model: Any, name: str) -> None:
    described = load_values({"name": "mine", "trial": TRIAL | {"model": model}})
    (trial,) = make_plan(described).trials
    assert trial.trial.model.label.rpartition(":")[2] == name
    assert trial.trial.model.component.code


def test_objects_stand_at_every_place_of_a_component() -> None:
    described = load_values(
        {
            "name": "mine",
            "trial": without("model", "lr") | {"loss": doubled, "metrics": [hits]},
            "grid": [
                {"model": [Net], "lr": [0.1]},
                {"model": ["mlp", partial(Net, width=3)], "lr": [1]},
            ],
            "skip": [{"when": {"model": Net, "lr": 0.1}, "because": "a test says so"}],
            "metric": "val/hits",
        }
    )
    plan = make_plan(described)
    (trial,) = [each.trial for each in plan.trials if each.trial.model.name == "mlp"]
    assert trial.loss.name == "doubled"
    assert trial.metrics == ("hits",)
    assert len(plan.skipped) == 1


def test_sub_grids_and_search_spaces_take_objects() -> None:
    described = load_values(
        {
            "name": "mine",
            "trial": without("optimizer", "lr"),
            "search": {
                "space": {"optimizer": [torch.optim.SGD, "adam"], "lr": {"low": 1e-3, "high": 1.0}},
                "trials": 2,
            },
        }
    )
    assert described.search is not None
    (optimizers,) = [d for d in described.search.space if d.field == "optimizer"]
    assert str(optimizers) == "[torch.optim:SGD, adam]"


def test_an_edited_class_makes_other_trials() -> None:
    def make(factor: int) -> Callable[[harness.DataInfo], nn.Module]:
        def net(data: harness.DataInfo) -> nn.Module:
            return Net(data, factor * 2)

        return net

    ids = [planned(trial=TRIAL | {"model": make(factor)})[0][0] for factor in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]


def test_another_experiment_does_not_know_the_objects() -> None:
    planned(trial=TRIAL | {"loss": doubled})
    with pytest.raises(harness.InputError, match="no 'doubled' is registered"):
        planned(trial=TRIAL | {"loss": "doubled"})
    code = active_code()
    assert code is not None
    assert code.given == ()


def test_code_is_of_the_working_folder(folder: Path) -> None:
    (folder / "own_losses.py").write_text(
        "import harness\n\n@harness.loss\ndef half(logits, targets):\n    return logits[:, 0] / 2\n"
    )
    ((_, _),) = planned(trial=TRIAL | {"loss": "half"}, code="own_losses.py")
    with pytest.raises(harness.InputError, match=r"no file own_loses\.py\n.*own_losses\.py"):
        planned(trial=TRIAL, code="own_loses.py")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "axis": ({"grid": {"model": ["mlp", "mpl"]}}, "grid.model[1]: no 'mpl' is registered"),
    "option": ({"grid": {"model": [{"name": Net, "widht": 3}]}}, "grid.model[0].widht: model"),
    "value": ({"trial": TRIAL | {"lr": -1}}, "trial.lr: must be greater than 0, given -1"),
    "field": ({"trial": TRIAL | {"optimiser": "sgd"}}, "trial.optimiser: unknown field"),
    "twice": ({"grid": {"lr": [0.1]}}, "grid.lr: is set in trial too (trial.lr)"),
    "instance": ({"trial": TRIAL | {"model": nn.ReLU()}}, "trial.model: must be a class"),
    "layers": (
        {"trial": TRIAL | {"model": nn.Sequential(nn.ReLU())}},
        "trial.model: must be a class",
    ),
    "arrays": (
        {"trial": TRIAL | {"dataset": (np.zeros((9, 9)), 3)}},
        "trial.dataset[0]: must be a",
    ),
    "table": ({"trial": TRIAL | {"dataset": pd.DataFrame({"a": [1]})}}, "trial.dataset: must be a"),
    "lambda": ({"trial": TRIAL | {"model": lambda data: None}}, "trial.model: a lambda"),
    "kind": ({"trial": TRIAL | {"model": doubled}}, "trial.model: doubled is declared to be"),
    "torch kind": ({"trial": TRIAL | {"model": torch.optim.SGD}}, "trial.model: SGD is one of the"),
    "place": ({"trial": TRIAL | {"lr": Net}}, "trial.lr: must be a plain value, given "),
    "option object": (
        {"trial": TRIAL | {"model": {"name": Net, "width": nn.ReLU}}},
        "trial.model.width: must be a plain value, given torch.nn.modules.activation.ReLU",
    ),
    "object": ({"trial": TRIAL | {"epochs": object()}}, "trial.epochs: must be a plain value"),
    "name": ({"name": "a/b"}, "name: is not valid, given 'a/b'"),
    "positional": ({"trial": TRIAL | {"model": partial(max, 3)}}, "trial.model: a partial must"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG)
def test_faults_are_told_by_the_name_of_the_field(values: dict[str, Any], message: str) -> None:
    given = {"name": "mine", "trial": TRIAL, **values}
    if "model" in (given.get("grid") or {}):
        given["trial"] = without("model")
    with pytest.raises(harness.InputError) as caught:
        Experiment(**given)
    assert str(caught.value).startswith(message)
    assert caught.value.__cause__ is None
    assert caught.value._render_traceback_() == [f"InputError: {caught.value}"]


def test_two_components_of_one_name_are_refused() -> None:
    def mlp(data: harness.DataInfo) -> nn.Module:
        return Net(data)

    with pytest.raises(harness.InputError, match="another model is called 'mlp'"):
        planned(trial=TRIAL | {"model": mlp})


def test_a_file_is_loaded_with_overrides(folder: Path) -> None:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"trial": TRIAL}))
    assert repr(harness.load(file, ["seed=[0,1]"])) == "<Experiment 'mine': 2 combinations>"
    file.write_text(yaml.safe_dump({"trial": TRIAL | {"lr": "high"}}))
    with pytest.raises(harness.InputError, match=r"mine\.yaml:\d+: trial\.lr: must be a number"):
        harness.load(file)


def test_experiment_has_the_fields_of_a_file() -> None:
    assert set(inspect.signature(Experiment.__init__).parameters) - {"self"} == set(
        FileFields.model_fields
    )


@pytest.mark.parametrize(
    ("method", "command"), [(Experiment.run, sweep), (Experiment.search, search)]
)
def test_methods_have_the_flags_of_the_commands(method: Any, command: Any) -> None:
    flags = {action.dest for action in command.parser()._actions}
    of_commands = {"help", "file", "overrides", "dry_run", "no_compare"}
    assert set(inspect.signature(method).parameters) - {"self"} == flags - of_commands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers: '0' is not a positive integer"),
        ({"workers": 1.5}, "workers: '1.5' is not a positive integer"),
        ({"executor": "procces"}, "executor: 'procces' is not known; did you mean 'process'?"),
        ({"fuse": "always"}, "fuse: 'always' is not a positive integer, auto or off"),
        ({"exclusive": 1}, "exclusive: 1 is not True or False"),
        ({"retry_failed": True, "rerun": True}, "retry_failed and rerun do not go together"),
        ({"address": "auto"}, "--address is of a Ray cluster"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    experiment = harness.Experiment("mine", trial=TRIAL)
    with pytest.raises(harness.InputError) as caught:
        experiment.run(**arguments)
    assert str(caught.value).startswith(message)


def test_search_needs_a_search_block() -> None:
    with pytest.raises(harness.InputError, match="the experiment has no `search` block"):
        harness.Experiment("mine", trial=TRIAL).search()


def test_every_public_name_is_there_and_documented() -> None:
    for name in harness.__all__:
        value = getattr(harness, name)
        assert inspect.getdoc(value), name
    assert set(harness.__all__) <= set(dir(harness))
