"""Two searches that share their studies' storage: no point is drawn and trained twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from harness.tuning import study as study_module
from harness.tuning.storage import StudyStorage
from harness.tuning.study import SearchPoint, TuningStudy
from tests.tuning.tuning_support import counted, plans, write

CONTENT = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: adam, lr: 0.01}
search: {trials: 8, sampler: SAMPLER, space: SPACE}
"""
RANGE = "{lr: {low: 0.001, high: 1, log: true}}"
SAMPLERS = ["random", "tpe", "qmc", "gp", "cmaes", "nsga2"]


class Processes:
    """Two processes with a study each. Points are signed by the one that acts."""

    def __init__(self, studies: list[TuningStudy], monkeypatch: pytest.MonkeyPatch) -> None:
        self.studies = studies
        self.active = 0
        monkeypatch.setattr(study_module, "process_tag", lambda: f"process {self.active}")

    def ask(self, process: int) -> SearchPoint | None:
        before, self.active = self.active, process
        try:
            return self.studies[process].ask()
        finally:
            self.active = before


@pytest.fixture
def processes(
    workspace: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Processes]:
    def start(sampler: str, space: str = RANGE) -> Processes:
        content = CONTENT.replace("SAMPLER", sampler).replace("SPACE", space)
        (plan,) = plans(write(workspace, content), data_root)
        opened = StudyStorage(InMemoryStorage(), "memory", shared=True)
        return Processes([TuningStudy(opened, plan, "small") for _ in range(2)], monkeypatch)

    return start


def complete(point: SearchPoint | None) -> None:
    assert point is not None
    point.values = [[0.5]]
    point.study.tell(point, TrialState.COMPLETE, "done")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_that_are_asked_for_at_once_differ(
    processes: Callable[..., Processes], sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = processes(sampler)
    here, there = both.studies
    ask: Callable[[], optuna.Trial] = here.optuna_study.ask
    points: list[SearchPoint | None] = []

    def ask_after_the_other_one() -> optuna.Trial:
        if there.n_asked() < 8:
            points.append(both.ask(1))
        return ask()

    monkeypatch.setattr(here.optuna_study, "ask", ask_after_the_other_one)
    while (point := both.ask(0)) is not None:
        points.append(point)
    trials = counted(here.optuna_study)
    assert len(trials) == 8
    assert len({trial.params["lr"] for trial in trials}) == 8


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
def test_a_point_that_another_process_trains_is_not_drawn(
    processes: Callable[..., Processes], sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "WAIT_SECONDS", 0.01)
    both = processes(sampler, "{lr: [0.1, 0.2], batch_size: [8, 16, 32, 64]}")
    points = [both.ask(n % 2) for n in range(6)]
    running = [point for point in points if point is not None]
    own = {process: {p.current.trial_id for p in running[process::2]} for process in (0, 1)}
    assert not own[0] & own[1]
    for point in running:
        complete(point)
    while not both.studies[1].is_over():
        complete(both.ask(1))
    assert len(counted(both.studies[0].optuna_study)) == 8


def test_a_search_waits_where_the_others_train_every_point(
    processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "WAIT_SECONDS", 1000)
    both = processes("random", "{lr: [0.1]}")
    first, there = both.ask(0), both.studies[1]
    assert both.ask(1) is None
    assert not there.is_over()
    assert there.is_waiting
    assert not there.may_ask()
    complete(first)
    assert both.ask(1) is not None, "its result is in the store"
    assert not there.is_waiting
