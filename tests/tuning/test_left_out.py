"""Points that a rule leaves out, or whose options exclude each other: the study asks for others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from harness.experiment.grid import SkipRule
from harness.experiment.trial import Trial
from harness.tuning import study as study_module
from harness.tuning.report import outcome_lines
from harness.tuning.storage import StudyStorage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan, field_value, with_fields
from tests.tuning.tuning_support import plans, run, stored, write

SAMPLERS = ["random", "tpe", "qmc", "gp", "cmaes", "{name: nsga2, population_size: 3}"]

RULE = """\
name: small
trial: {dataset: iris, model: perceptron, lr: 0.01}
grid: {optimizer: [adam, sgd], scheduler: [constant, cosine, step]}
skip: [{when: {optimizer: sgd, scheduler: [cosine, step]}, because: too slow}]
search:
  trials: 12
  sampler: SAMPLER
  space:
    lr: {low: 1e-3, high: 1, log: true}
"""
OPTIONS = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: adam, lr: 0.01, scheduler: onecycle}
search:
  trials: 12
  sampler: SAMPLER
  space:
    scheduler.pct_start: {low: 0.2, high: 0.9}
    scheduler.three_phase: [true, false]
"""
FINITE = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: adam}
grid: {lr: [0.1, 0.2], batch_size: [8, 16]}
skip: [{when: {lr: [0.1, 0.2], batch_size: 16}, because: too noisy}]
search:
  trials: 4
  sampler: SAMPLER
"""


def open_study(plan: StudyPlan, storage: InMemoryStorage | None = None) -> TuningStudy:
    opened = StudyStorage(storage or InMemoryStorage(), "memory", shared=False)
    return TuningStudy(opened, plan, "small")


def search_all(study: TuningStudy) -> list[Trial]:
    """Asks for points until the study is over. A point's value is its learning rate."""
    found = []
    while (point := study.ask()) is not None:
        trial = point.current.trial
        found.append(trial)
        point.values = [[trial.lr or 0.0]]
        study.tell(point, TrialState.COMPLETE, "done")
    return found


def of_three_phases(plan: StudyPlan) -> StudyPlan:
    """Returns the plan with `scheduler.three_phase` true where a point does not say."""
    trial = with_fields(plan.base.trial, {"scheduler.three_phase": True})
    return replace(plan, base=replace(plan.base, trial=trial))


def plan_of(workspace: Path, data_root: Path, content: str, sampler: str = "tpe") -> StudyPlan:
    (plan,) = plans(write(workspace, content.replace("SAMPLER", sampler)), data_root)
    return plan


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("content", [RULE, OPTIONS], ids=["rule", "options"])
def test_every_sampler_asks_for_another_point(
    workspace: Path, data_root: Path, content: str, sampler: str
) -> None:
    study = open_study(plan_of(workspace, data_root, content, sampler))
    found = search_all(study)
    assert len(found) == 12
    assert study.n_left_out(), "the space has points that cannot be trained"
    if content == RULE:
        assert not [
            t for t in found if t.optimizer.name == "sgd" and t.scheduler.name != "constant"
        ]
    continuous = [trial.lr if content == RULE else trial.scheduler.options for trial in found]
    if "nsga2" not in sampler:  # A generation may repeat a parent.
        assert len({str(value) for value in continuous}) == 12


def test_options_are_judged_together(workspace: Path, data_root: Path) -> None:
    """The base's `three_phase: true` excludes a `pct_start` of 0.8, the point itself does not."""
    plan = of_three_phases(plan_of(workspace, data_root, OPTIONS))
    late = {"scheduler.pct_start": 0.8, "scheduler.three_phase": False}
    for point in (late, dict(reversed(late.items()))):
        assert field_value(plan.trial(point), "scheduler.pct_start") == 0.8


def test_a_sampler_that_insists_on_a_point_is_not_asked_for_ever(
    workspace: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.tuning import proposals
    from harness.tuning.samplers import FixedSampler

    insists = FixedSampler({"optimizer": "sgd", "scheduler": "cosine", "lr": 0.1})
    monkeypatch.setattr(proposals, "make_sampler", lambda *_: insists)
    study = open_study(plan_of(workspace, data_root, RULE.replace("trials: 12", "trials: 3")))
    assert len(search_all(study)) == 3


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
def test_a_finite_space_without_an_allowed_point_ends_the_study(
    workspace: Path, data_root: Path, sampler: str
) -> None:
    plan = plan_of(workspace, data_root, FINITE, sampler)
    study = open_study(replace(plan, skip=(SkipRule({"lr": [0.1, 0.2]}, "too noisy"),)))
    assert study.ask() is None
    assert study.is_over()
    assert study.remaining() == 0
    assert study.n_left_out() <= 2, "the default, and one more"
    (line,) = outcome_lines(plan.search, [study])
    assert "the rules leave out every point of its space" in line


def test_a_continuous_space_without_an_allowed_point_ends_the_study_once(
    workspace: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "MAX_LEFT_OUT", 25)
    content = OPTIONS.replace("low: 0.2", "low: 0.6")
    content = content.replace("    scheduler.three_phase: [true, false]\n", "")
    plan = of_three_phases(plan_of(workspace, data_root, content))
    storage = InMemoryStorage()
    study = open_study(plan, storage)
    assert study.ask() is None
    assert study.n_left_out() == 25
    (line,) = outcome_lines(plan.search, [study])
    assert "25 points in a row were left out; the last: " in line
    assert "pct_start should be at most 0.5" in line
    again = open_study(plan, storage)
    assert again.is_over()
    assert again.ask() is None
    assert again.n_left_out() == 25
    others = replace(plan, skip=(SkipRule({"lr": 0.5}, "another rule"),))
    assert not open_study(others, storage).is_over(), "the rules have changed"


def test_the_grid_visits_each_allowed_point_once_and_ends(workspace: Path, data_root: Path) -> None:
    plan = plan_of(workspace, data_root, FINITE, "grid")
    study = open_study(plan)
    assert sorted((t.lr, t.batch_size) for t in search_all(study)) == [(0.1, 8), (0.2, 8)]
    assert "its 2 points that the rules allow were tried" in outcome_lines(plan.search, [study])[0]


def test_a_grid_has_one_point_for_values_that_do_not_apply(
    workspace: Path, data_root: Path
) -> None:
    content = RULE.replace("lr: {low: 1e-3, high: 1, log: true}", "optimizer.eps: [1e-8, 1e-7]")
    plan = plan_of(workspace, data_root, content, "grid")
    found = search_all(open_study(plan))
    labels = [(t.optimizer.label, t.scheduler.name) for t in found]
    assert len(set(labels)) == len(labels) == 1 + 2 * 3


def test_a_known_point_that_a_rule_leaves_out_is_no_default(
    workspace: Path, data_root: Path
) -> None:
    known = "  known: [{optimizer: sgd, scheduler: step}, {optimizer: sgd, scheduler: constant}]\n"
    plan = plan_of(workspace, data_root, RULE + known)
    assert plan.default is not None
    assert (plan.default.optimizer.name, plan.default.scheduler.name) == ("sgd", "constant")
    first, *_ = search_all(open_study(plan))
    assert (first.optimizer.name, first.scheduler.name) == ("sgd", "constant")


LRS, SIZES, EPOCHS = [0.1, 0.2, 0.3], [8, 16], [1, 2]
ALL = list(itertools.product(LRS, SIZES, EPOCHS))


@given(
    st.sets(st.sampled_from(ALL), max_size=len(ALL) - 1),
    st.sampled_from(["random", "tpe", "qmc", "grid"]),
)
@settings(max_examples=20)
def test_a_study_tries_exactly_what_the_rules_allow(
    tmp_path_factory: pytest.TempPathFactory,
    data_root: Path,
    left_out: set[tuple[float, int, int]],
    sampler: str,
) -> None:
    """Against a list of all combinations."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "experiments").mkdir()
    rules = ", ".join(
        f"{{when: {{lr: {lr}, batch_size: {size}, epochs: {epochs}}}, because: x}}"
        for lr, size, epochs in sorted(left_out)
    )
    content = f"""\
name: small
trial: {{dataset: iris, model: perceptron, optimizer: adam}}
grid: {{lr: {LRS}, batch_size: {SIZES}, epochs: {EPOCHS}}}
skip: [{rules}]
search:
  trials: 12
  sampler: {sampler}
"""
    (plan,) = plans(write(folder, content), data_root)
    found = [(t.lr, t.batch_size, t.epochs) for t in search_all(open_study(plan))]
    allowed = set(ALL) - left_out
    assert set(found) <= allowed
    if sampler == "grid":
        assert sorted(found) == sorted(allowed)
    else:
        assert len(found) == 12


@pytest.mark.usefixtures("no_figures")
def test_a_search_with_left_out_points_ends_with_winners(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = RULE.replace("SAMPLER", "random").replace("trials: 12", "trials: 4")
    content = content.replace("lr: 0.01", "lr: 0.01, epochs: 1")
    path = write(project, content)
    assert run(path, "search.retrain_seeds=0") == 0
    out = capsys.readouterr().out
    assert "4 done" in out
    assert "best val/accuracy" in out
    n_points = len(stored(project)["all"].trials)
    assert run(path, "search.retrain_seeds=0") == 0
    assert len(stored(project)["all"].trials) == n_points


def rule_of(trial: Trial) -> SkipRule:
    return SkipRule({"optimizer": trial.optimizer.name, "lr": trial.lr}, "added later")


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=5, max_size=5),
    st.sets(st.integers(0, 4)),
    st.lists(st.integers(1, 3), min_size=5, max_size=5),
)
@settings(max_examples=15)
def test_the_winner_is_the_best_point_that_the_rules_allow(
    data_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float],
    barred: set[int],
    costs: list[int],
) -> None:
    """Against sorted lists; so is the Pareto front."""
    folder = tmp_path_factory.mktemp("winner")
    (folder / "experiments").mkdir()
    content = RULE.replace("trials: 12", "trials: 5\n  also: [parameters]")
    plan = plan_of(folder, data_root, content, "random")
    storage = InMemoryStorage()
    study, trials = open_study(plan, storage), []
    for value, cost in zip(values, costs, strict=True):
        point = study.ask()
        assert point is not None
        trials.append(point.current.trial)
        point.values = [[value, cost]]
        study.tell(point, TrialState.COMPLETE, "done")
    rules = tuple(rule_of(trials[number]) for number in barred)
    later = open_study(replace(plan, skip=(*plan.skip, *rules)), storage)
    allowed = [n for n in range(5) if n not in barred]
    counted = [t for t in later.optuna_study.trials if "uncounted" not in t.user_attrs]
    best = later.best()
    numbers = [counted[n].number for n in allowed]
    assert (best and best.number) == (
        counted[min(allowed, key=lambda n: (-values[n], n))].number if allowed else None
    )
    assert (later.tuned() is None) == (not allowed)
    front = [
        counted[n].number
        for n in allowed
        if not any(
            (values[m] >= values[n] and costs[m] <= costs[n])
            and (values[m], costs[m]) != (values[n], costs[n])
            for m in allowed
        )
    ]
    assert [trial.number for trial in later.pareto_front()] == front
    assert set(front) <= set(numbers)
    assert later.n_barred() == len(barred)
    lines = outcome_lines(plan.search, [later])
    assert ("cannot win" in lines[0]) == bool(barred)
