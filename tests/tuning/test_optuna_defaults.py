"""What a file does not set is left to the installed Optuna, and no warning of it is printed."""

from __future__ import annotations

import itertools
import logging
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from harness.experiment.experiment import Method
from harness.experiment.fields import PRUNERS, SAMPLERS
from harness.tuning import samplers
from harness.tuning.report import announcement
from harness.tuning.samplers import RoundingSampler, make_sampler, optuna_default, points_per_round
from harness.tuning.storage import StudyStorage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan
from tests.tuning.tuning_support import plans, write

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, lr: 0.01}
grid: {optimizer: [adam, momentum]}
search:
  trials: 14
  sampler: SAMPLER
  space:
    lr: {low: 1e-3, high: 1, log: true}
    optimizer.momentum: {low: 0.5, high: 0.9}
"""
OPTIONS = {"n_startup_trials": 3, "multivariate": False, "constant_liar": False}


def plan_of(workspace: Path, data_root: Path, sampler: str) -> StudyPlan:
    (plan,) = plans(write(workspace, FILE.replace("SAMPLER", sampler)), data_root)
    return plan


def memory() -> StudyStorage:
    return StudyStorage(InMemoryStorage(), "memory", shared=False)


def fill(study: TuningStudy, points: int) -> None:
    for _ in range(points):
        point = study.ask()
        assert point is not None
        point.values = [[point.current.trial.lr or 0.0]]
        study.tell(point, TrialState.COMPLETE, "done")


@pytest.mark.parametrize(
    "given", [names for n in range(4) for names in itertools.combinations(OPTIONS, n)], ids=str
)
def test_tpe_has_optunas_own_defaults(
    workspace: Path, data_root: Path, given: tuple[str, ...]
) -> None:
    options = {name: OPTIONS[name] for name in given}
    fields = "".join(f", {name}: {str(value).lower()}" for name, value in options.items())
    plan = plan_of(workspace, data_root, f"{{name: tpe{fields}}}")
    wrapper = make_sampler(plan, 0)
    assert isinstance(wrapper, RoundingSampler)
    ours, theirs = vars(wrapper.sampler), vars(TPESampler(**options))  # type: ignore[arg-type]
    for name in ("n_startup_trials", "multivariate", "group", "constant_liar"):
        assert ours[f"_{name}"] == theirs[f"_{name}"], name
    assert points_per_round(plan) == theirs["_n_startup_trials"]


@pytest.mark.parametrize(
    "name", ["gp", "cmaes", "nsga2", "median", "asha", "hyperband", "wilcoxon"]
)
def test_the_defaults_of_the_others_are_optunas(name: str) -> None:
    fields = {**SAMPLERS, **PRUNERS}[name].model_fields
    kind = {**samplers._SAMPLERS, **samplers._PRUNERS}[name]
    for option, info in fields.items():
        if (name, option) == ("asha", "min_resource"):
            assert optuna_default(kind, option) == "auto"  # 1 for fewer than 200 epochs
        else:
            assert info.default == optuna_default(kind, option), option


@pytest.mark.parametrize(
    "sampler",
    [
        *("random", "tpe", "qmc", "gp", "cmaes", "nsga2"),
        "{name: tpe, multivariate: true, group: true}",
        "{name: tpe, multivariate: true}",
    ],
)
def test_no_warning_of_optuna_is_printed(
    workspace: Path, data_root: Path, sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        fill(TuningStudy(memory(), plan_of(workspace, data_root, sampler), "small"), 14)
    assert not caplog.text


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband"])
def test_no_warning_of_a_pruner_is_printed(workspace: Path, data_root: Path, pruner: str) -> None:
    content = FILE.replace("SAMPLER", "random") + f"  pruner: {pruner}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (plan,) = plans(write(workspace, content), data_root)
        point = TuningStudy(memory(), plan, "small").ask()
        assert point is not None
        point.report_epoch(1, 0.5)


@pytest.mark.parametrize(
    ("sampler", "spelled"),
    [
        ("tpe", "tpe(n_startup_trials=10, multivariate=false, group=false)"),
        (
            "{name: tpe, n_startup_trials: 2, group: true, multivariate: true}",
            None,  # All is set: the plan is as it was.
        ),
        (
            "{name: tpe, n_startup_trials: 2}",
            "tpe(n_startup_trials=2, multivariate=false, group=false)",
        ),
        ("cmaes", "cmaes(n_startup_trials=1, sigma0=none)"),
        ("{name: tpe, constant_liar: true}", None),
        *((name, None) for name in ("random", "qmc", "gp", "nsga2")),
    ],
)
def test_a_study_of_the_version_before_goes_on_as_it_began(
    workspace: Path, data_root: Path, sampler: str, spelled: str | None
) -> None:
    plan = plan_of(workspace, data_root, sampler)
    if spelled is None:
        assert plan.earlier is None
        return
    assert plan.earlier is not None
    assert str(plan.earlier.search.sampler) == spelled
    storage = memory()
    begun = TuningStudy(storage, plan.earlier, "small")
    fill(begun, 3)
    study = TuningStudy(storage, plan, "small")
    assert study.begun_earlier
    assert study.optuna_study.study_name == begun.optuna_study.study_name
    assert (study.n_asked(), study.remaining()) == (3, 11)
    fill(study, 1)
    options = study.plan.search.sampler.options
    assert {name: options[name] for name in plan.earlier.search.sampler.options} == options
    lines = announcement("small", plan.search, [study], 0, "memory")
    assert f"1 study of an earlier version: continuing with sampler {spelled}" in lines
    fresh = TuningStudy(memory(), plan, "small")
    assert not fresh.begun_earlier
    assert fresh.optuna_study.study_name != begun.optuna_study.study_name


def test_a_study_that_was_begun_anew_is_preferred(workspace: Path, data_root: Path) -> None:
    plan = plan_of(workspace, data_root, "tpe")
    assert plan.earlier is not None
    storage = memory()
    TuningStudy(storage, plan, "small")
    TuningStudy(storage, plan.earlier, "small")
    assert not TuningStudy(storage, plan, "small").begun_earlier


def test_unset_options_are_not_shown() -> None:
    assert str(Method("tpe", {})) == "tpe"
    assert optuna_default(optuna.samplers.RandomSampler, "multivariate") is None
