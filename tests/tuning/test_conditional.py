"""Options of a component that only the space names, and fields that only the space gives."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness import compare, search, sweep
from harness.store import names
from harness.store.store import open_store
from harness.tuning.attributes import TRIALS
from harness.tuning.proposals import Proposals
from harness.tuning.storage import StudyStorage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan
from tests.tuning.tuning_support import plans, run, stored, write

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: sgd, epochs: 1, val_fraction: 0.3}
artifacts: none
search:
  trials: TRIALS
  retrain_seeds: 2
  sampler: SAMPLER
  space:
    lr: LR
    scheduler: [constant, step]
    scheduler.gamma: GAMMA
"""
CONTINUOUS = FILE.replace("LR", "{low: 1e-3, high: 1, log: true}").replace(
    "GAMMA", "{low: 0.1, high: 0.9}"
)
FINITE = FILE.replace("LR", "[0.1]").replace("GAMMA", "{low: 0.1, high: 0.9, step: 0.2}")
SAMPLERS = [
    "random",
    "{name: tpe, n_startup_trials: 3}",
    "{name: tpe, n_startup_trials: 3, multivariate: true, group: true}",
    "qmc",
    "{name: gp, n_startup_trials: 3}",
    "cmaes",
    "{name: nsga2, population_size: 3}",
]


def plan_of(
    workspace: Path, data_root: Path, content: str, sampler: str, trials: int = 8
) -> StudyPlan:
    text = content.replace("SAMPLER", sampler).replace("TRIALS", str(trials))
    (plan,) = plans(write(workspace, text), data_root)
    return plan


def points_of(plan: StudyPlan) -> list[FrozenTrial]:
    """Asks for points until the study is over, and checks that each is what its trial is."""
    study = TuningStudy(StudyStorage(InMemoryStorage(), "memory", shared=False), plan, "small")
    while (point := study.ask()) is not None:
        trial = point.current.trial
        drawn = point.optuna_trial.params
        searched = {"lr", "scheduler"} | ({"scheduler.gamma"} & set(drawn))
        assert set(drawn) == searched
        assert (trial.scheduler.name == "step") == ("scheduler.gamma" in drawn)
        if "scheduler.gamma" in drawn:
            assert trial.scheduler.options.model_dump()["gamma"] == drawn["scheduler.gamma"]
        point.values = [[trial.lr]]
        study.tell(point, TrialState.COMPLETE, "done")
    return study.optuna_study.get_trials(deepcopy=False)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_option_is_drawn_where_it_applies(
    workspace: Path, data_root: Path, sampler: str
) -> None:
    found = points_of(plan_of(workspace, data_root, CONTINUOUS, sampler))
    assert len(found) == 8
    assert {t.params["scheduler"] for t in found} == {"constant", "step"}


def test_the_grid_has_each_point_once(workspace: Path, data_root: Path) -> None:
    """An option that does not apply multiplies no points: one without a schedule, five with."""
    found = points_of(plan_of(workspace, data_root, FINITE, "grid", trials=10))
    params = [str(sorted(t.params.items())) for t in found]
    assert len(params) == len(set(params)) == 6
    assert sorted(t.params.get("scheduler.gamma", 0) for t in found) == [0, 0.1, 0.3, 0.5, 0.7, 0.9]


def test_a_grid_of_an_earlier_version_goes_on(workspace: Path, data_root: Path) -> None:
    """It stored the floats of its own arithmetic."""
    plan = plan_of(workspace, data_root, FINITE, "grid", trials=6)
    gammas = FloatDistribution(0.1, 0.9, step=0.2)
    earlier = create_trial(
        params={"lr": 0.1, "scheduler": "step", "scheduler.gamma": 0.1 + 0.2},
        distributions={
            "lr": optuna.distributions.CategoricalDistribution([0.1]),
            "scheduler": optuna.distributions.CategoricalDistribution(["constant", "step"]),
            "scheduler.gamma": gammas,
        },
        user_attrs={TRIALS: ["x"]},
        value=0.0,
    )
    left = Proposals(plan, optuna.create_study()).untried([earlier])
    assert len(left) == 5
    assert 0.3 not in [point.get("scheduler.gamma") for point in left]


def test_a_known_point_completes_a_field_that_only_the_space_gives(
    workspace: Path, data_root: Path
) -> None:
    plan = plan_of(workspace, data_root, CONTINUOUS, "random")
    assert plan.known_points == ()
    assert plan.default is None, "nobody has said which learning rate is the default"
    known = "  known: [{scheduler: step}, {scheduler.gamma: 0.5, scheduler: step, lr: 0.2}]\n"
    plan = plan_of(workspace, data_root, CONTINUOUS + known, "random")
    first, second = plan.known_points
    assert "lr" not in first, "the sampler draws it"
    assert second["lr"] == 0.2
    assert plan.default is not None
    assert (plan.default.lr, plan.default.scheduler.options.model_dump()["gamma"]) == (0.2, 0.5)


def test_a_rule_on_the_value_in_trial_leaves_the_study_without_a_default(
    workspace: Path, data_root: Path
) -> None:
    rule = "skip: [{when: {lr: 0.1}, because: too small}]\nsearch:"
    text = FINITE.replace("val_fraction", "lr: 0.1, val_fraction").replace("[0.1]", "[0.1, 0.2]")
    plan = plan_of(workspace, data_root, text.replace("search:", rule), "random")
    assert plan.default is None
    assert {t.params["lr"] for t in points_of(plan) if TRIALS in t.user_attrs} == {0.2}


@pytest.mark.usefixtures("no_figures")
def test_a_search_without_a_default(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(project, CONTINUOUS.replace("SAMPLER", "random").replace("TRIALS", "3"))
    assert search.main([str(path), "--dry-run"]) == 0
    assert "default: none" in capsys.readouterr().out
    assert run(path) == 0
    assert len(stored(project)["all"].trials) == 3
    store = open_store()
    runs = store.client.search_runs([store.experiment("small")])
    roles = [r.data.tags[names.TAG_ROLE] for r in runs if names.TAG_ROLE in r.data.tags]
    assert roles == ["tuned"] * 2
    assert compare.main([str(path)]) == 0
    assert sweep.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert "lr is missing: only search.space gives it" in error
    assert "run python -m harness.search" in error
