"""The search loop with an executor that may ignore what it is told to do."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.core.metrics import Goal
from harness.core.process import Interrupts
from harness.core.records import Ended, Measured, Outcome
from harness.execution.executors.base import Event, TrainingTask
from harness.tuning.samplers import points_per_round
from harness.tuning.search_loop import SearchLoop, StackLimit, stack_limit
from harness.tuning.storage import open_storage
from harness.tuning.study import TuningStudy
from tests.tuning.stub_search import StubExecutor, searched
from tests.tuning.tuning_support import FILE, counted, plans, write

PRUNED = (
    FILE.replace("epochs: 2", "epochs: 4").replace("trials: 4", "trials: 6")
    + "  pruner: {name: median, n_startup_trials: 1}\n"
    + "  known: [{lr: 1}, {lr: 0.001}]\n"
)


def test_a_pruned_trial_is_not_done_although_its_worker_trained_to_the_end(
    workspace: Path, data_root: Path
) -> None:
    with searched(workspace, data_root, PRUNED) as found:
        (pruned, *_) = [
            t for t in found.studies[0].optuna_study.trials if t.state is TrialState.PRUNED
        ]
        assert pruned.number == 1
        (key,) = pruned.user_attrs["trial_ids"]
        assert key in found.executor.cancelled
        *measured, ended = found.records[key]
        assert [r.epoch for r in measured if isinstance(r, Measured)] == [0, 1]
        assert isinstance(ended, Ended)
        assert (ended.outcome, ended.pruned_at) == (Outcome.INTERRUPTED, 1)
        assert ended.reason == "pruned after epoch 1 by median"


def test_a_point_is_told_after_its_run_is_safe(workspace: Path, data_root: Path) -> None:
    with searched(workspace, data_root, FILE) as found:
        assert found.n_told == list(range(8)), "each run was handled before its point was told"


@pytest.mark.parametrize("slots", [2, 5, 50])
def test_the_budget_is_exact_with_any_number_of_workers(
    workspace: Path, data_root: Path, slots: int
) -> None:
    with searched(workspace, data_root, FILE, slots=slots) as found:
        assert [len(study.optuna_study.trials) for study in found.studies] == [4, 4]
        assert len(found.executor.tasks) == 8


def test_points_of_all_studies_train_as_stacks_of_at_most_k(
    workspace: Path, data_root: Path
) -> None:
    with searched(workspace, data_root, FILE, StackLimit(3)) as found:
        sizes = [len(task.trials) for task in found.executor.tasks]
        assert sizes == [3, 3, 2]
        optimizers = {trial.optimizer.name for trial in found.executor.tasks[0].trials.values()}
        assert optimizers == {"sgd", "momentum"}
        assert [len(counted(study.optuna_study)) for study in found.studies] == [4, 4]
        assert not any(task.speedup_file for task in found.executor.tasks)


def test_points_that_cannot_stack_wait_for_others_of_their_kind(
    workspace: Path, data_root: Path
) -> None:
    content = FILE.replace("  space:\n", "  space:\n    batch_size: [8, 16, 32]\n").replace(
        "trials: 4", "trials: 12"
    )
    with searched(workspace, data_root, content, StackLimit(4)) as found:
        for task in found.executor.tasks:
            assert len({trial.batch_size for trial in task.trials.values()}) == 1
            assert len(task.trials) <= 4
        assert sum(len(task.trials) for task in found.executor.tasks) == 24
        assert len(found.executor.tasks) < 24


def test_one_trial_of_a_stack_is_pruned_and_the_others_continue(
    workspace: Path, data_root: Path
) -> None:
    content = PRUNED.replace("{name: median, n_startup_trials: 1}", "{name: asha}")
    with searched(workspace, data_root, content, StackLimit(12)) as found:
        outcomes = {key: records[-1] for key, records in found.records.items()}
        cut = {k for k, end in outcomes.items() if isinstance(end, Ended) and end.pruned_at}
        assert cut == set(found.executor.cancelled)
        assert 0 < len(cut) < len(outcomes)
        for study in found.studies:
            states = {t.user_attrs["trial_ids"][0]: t.state for t in study.optuna_study.trials}
            for key, state in states.items():
                assert (state is TrialState.PRUNED) == (key in cut)


def test_each_trial_of_a_stack_is_charged_its_share_of_the_time(
    workspace: Path, data_root: Path
) -> None:
    class Timed(StubExecutor):
        def submit(self, task: TrainingTask) -> None:
            super().submit(task)
            self.events = deque(
                Event(e.key, Measured(e.record.epoch, {**e.record.values, "time/train_s": 6.0}, 0))
                if isinstance(e.record, Measured)
                else e
                for e in self.events
            )

    content = FILE.replace("trials: 4", "minutes: 0.1").replace("[sgd, momentum]", "[momentum]")
    study_plans = plans(write(workspace, content), data_root)
    with open_storage("", workspace / "mlruns", "small") as opened, Interrupts() as interrupts:
        study = TuningStudy(opened, study_plans[0], "small")
        goal = Goal("val/accuracy", "max")
        loop = SearchLoop(
            [study],
            Timed(),
            lambda *_: None,
            goal,
            interrupts,
            data_root,
            False,
            StackLimit(3),
        )
        list(loop.events())
        assert [t.user_attrs["seconds"] for t in study.optuna_study.trials] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("sampler", "at_once"),
    [
        ("{name: tpe, n_startup_trials: 7}", 7),
        ("gp", 10),
        ("{name: nsga2, population_size: 6}", 6),
        ("cmaes", 6),
        ("random", None),
        ("qmc", None),
    ],
)
def test_auto_asks_for_no_more_points_than_a_sampler_draws_before_it_learns(
    workspace: Path, data_root: Path, sampler: str, at_once: int | None
) -> None:
    content = FILE.replace("{name: tpe, n_startup_trials: 2}", sampler)
    content = content.replace("trials: 4", "trials: 30")
    sgd, momentum = plans(write(workspace, content), data_root)
    assert points_per_round(momentum) == at_once
    with open_storage("", workspace / "mlruns", "small") as opened:
        studies = [TuningStudy(opened, plan, "small") for plan in (sgd, momentum)]
        of_sgd = points_per_round(sgd)
        both = 60 if at_once is None or of_sgd is None else at_once + of_sgd
        assert stack_limit("auto", studies, slots=1) == StackLimit(both, measured=True)
        assert stack_limit("auto", studies, slots=30) == StackLimit(2, measured=True)
        assert stack_limit("off", studies, slots=1) == StackLimit(1)
        assert stack_limit(5, studies, slots=9) == StackLimit(5)
