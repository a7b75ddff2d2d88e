"""Pruners: which epochs they see, and how these are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from harness.core.metrics import Goal
from harness.core.records import Measured, Outcome
from harness.tuning.report import outcome_lines
from harness.tuning.results import TrialResult
from harness.tuning.storage import StudyStorage
from harness.tuning.study import TuningStudy
from tests.tuning.stub_search import searched
from tests.tuning.tuning_support import plans, write

EPOCHS = 9
RATES = [0.5, 0.1, 0.2, 0.9, 0.05, 0.7, 0.6, 0.95, 0.3, 0.8]
FILE = f"""\
name: small
trial: {{dataset: iris, model: perceptron, optimizer: adam, lr: 0.01, epochs: {EPOCHS}}}
search:
  trials: {len(RATES)}
  sampler: random
  pruner: PRUNER
  space: {{lr: {{low: 1e-3, high: 1, log: true}}}}
  known: [{", ".join(f"{{lr: {lr}}}" for lr in RATES)}]
"""
PRUNERS = {
    "{name: median, n_startup_trials: 1}": optuna.pruners.MedianPruner(1),
    "{name: median, n_startup_trials: 1, n_warmup_steps: 1}": optuna.pruners.MedianPruner(1, 1),
    "{name: median, n_startup_trials: 2, n_warmup_steps: 4}": optuna.pruners.MedianPruner(2, 4),
    "{name: asha, reduction_factor: 2}": optuna.pruners.SuccessiveHalvingPruner(1, 2),
    "{name: asha, min_resource: 3}": optuna.pruners.SuccessiveHalvingPruner(3, 4),
    "hyperband": optuna.pruners.HyperbandPruner(1, EPOCHS, 3),
}
each_pruner = pytest.mark.parametrize("pruner", PRUNERS)


def points(study: optuna.Study) -> list[Any]:
    return [(t.params, t.state, t.values, t.intermediate_values) for t in study.trials]


@each_pruner
def test_epochs_are_counted_as_optuna_counts_steps(
    workspace: Path, data_root: Path, pruner: str
) -> None:
    """Against a loop as Optuna's documentation has it: `for step in range(epochs)`."""
    with searched(workspace, data_root, FILE.replace("PRUNER", pruner)) as found:
        ours = found.studies[0].optuna_study
    theirs = optuna.create_study(
        study_name=ours.study_name, direction="maximize", pruner=PRUNERS[pruner]
    )
    for lr in RATES:
        theirs.enqueue_trial({"lr": lr})
        trial = theirs.ask()
        trial.suggest_float("lr", 1e-3, 1, log=True)
        state = TrialState.COMPLETE
        for step in range(EPOCHS - 1):  # The last epoch's value is the trial's.
            trial.report(lr, step)
            if trial.should_prune():
                state = TrialState.PRUNED
                break
        theirs.tell(trial, lr if state is TrialState.COMPLETE else None, state)
    pruned = {t.number: t.last_step for t in theirs.trials if t.state is TrialState.PRUNED}
    assert pruned
    assert {t.number: t.last_step for t in ours.trials if t.state is TrialState.PRUNED} == pruned


@pytest.mark.parametrize("warmup", range(4))
def test_warmup_protects_so_many_epochs(workspace: Path, data_root: Path, warmup: int) -> None:
    pruner = f"{{name: median, n_startup_trials: 1, n_warmup_steps: {warmup}}}"
    with searched(workspace, data_root, FILE.replace("PRUNER", pruner)) as found:
        ends = [records[-1] for records in found.records.values()]
    assert {getattr(end, "pruned_at", None) for end in ends} == {None, warmup + 1}


@pytest.mark.parametrize("stored", [range(10), [1, 4, 7]])
@each_pruner
def test_a_search_does_not_depend_on_what_the_store_has(
    workspace: Path, data_root: Path, pruner: str, stored: range | list[int]
) -> None:
    content = FILE.replace("PRUNER", pruner)
    with searched(workspace, data_root, content) as alone:
        expected = alone.studies[0].optuna_study
        ids = {t.user_attrs["trial_ids"][0]: t.params["lr"] for t in expected.trials}
    in_store = {list(ids)[number] for number in stored}

    def find_result(trial_id: str, goal: Goal) -> TrialResult | None:
        if trial_id not in in_store:
            return None
        values = {goal.metric: ids[trial_id]}
        history = [Measured(epoch, values, 0) for epoch in range(EPOCHS + 1)]
        return TrialResult(history, outcome=Outcome.DONE)

    again = workspace / "again"
    (again / "experiments").mkdir(parents=True)
    with searched(again, data_root, content, find_result=find_result) as found:
        assert points(found.studies[0].optuna_study) == points(expected)
        assert len(found.executor.tasks) == len(RATES) - len(in_store)


def test_a_study_that_an_earlier_version_began_counts_on_from_one(
    workspace: Path, data_root: Path
) -> None:
    (plan,) = plans(write(workspace, FILE.replace("PRUNER", "median")), data_root)
    opened = StudyStorage(InMemoryStorage(), "memory", shared=False)
    name = f"small/all [{plan.key}]"
    begun = optuna.create_study(study_name=name, storage=opened.storage, direction="maximize")
    begun.enqueue_trial({"lr": 0.5})
    assert TuningStudy(opened, plan, "small").step_of(1) == 1
    fresh = StudyStorage(InMemoryStorage(), "memory", shared=False)
    for _ in range(2):
        assert TuningStudy(fresh, plan, "small").step_of(1) == 0


@pytest.mark.parametrize(
    ("outcome", "values", "count"),
    [
        (Outcome.DIVERGED, {"val/accuracy": 0.5}, "10 diverged"),
        (Outcome.FAILED, {"val/accuracy": 0.5}, "10 failed"),
        (Outcome.DONE, {}, "10 without a value"),
    ],
)
def test_a_search_that_measured_nothing_says_so(
    workspace: Path, data_root: Path, outcome: Outcome, values: dict[str, float], count: str
) -> None:
    def find_result(*_: object) -> TrialResult:
        return TrialResult([Measured(1, values, 0)], outcome=outcome)

    content = FILE.replace("PRUNER", "none")
    with searched(workspace, data_root, content, find_result=find_result) as found:
        (study,) = found.studies
        assert study.tuned() is None
        (line,) = outcome_lines(study.search, [study])
    assert count in line
    assert "no point has a value of val/accuracy" in line
