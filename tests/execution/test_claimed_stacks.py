"""Which trials train as a stack, new or resumed, while another harness holds some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.core.process import Interrupts
from harness.core.records import Claim, Ended, Outcome
from harness.execution import queue as execution
from harness.execution.checkpoint_folder import CheckpointFolder, TrainingLog
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import execute, stacks_of
from harness.experiment.plan import PlannedTrial
from harness.training.checkpoint import Checkpoint
from tests.resume_support import planned
from tests.support import make_trial

Answers = Callable[[int], Claim]
"""The answer to a claim of the n-th trial."""


class Noted:
    """An executor that ends each trial at once, and remembers its tasks."""

    slots = 1
    is_local = False
    description = "at once"

    def __init__(self) -> None:
        self.tasks: list[TrainingTask] = []
        self._ready: deque[Event] = deque()

    def prepare(self) -> None: ...

    def has_slot(self, device: str) -> bool:
        return not self._ready

    def submit(self, task: TrainingTask) -> None:
        self.tasks.append(task)
        ended = Ended(Outcome.DONE, {})
        self._ready.extend(Event(key, ended) for key in task.trials)

    def next(self, timeout: float | None = None) -> Event | None:
        return self._ready.popleft() if self._ready else None

    def cancel(self, key: str) -> None: ...

    def request_stop(self) -> bool:
        return False

    def close(self) -> None: ...


@pytest.fixture
def trials() -> list[PlannedTrial]:
    return [planned(make_trial(seed=seed)) for seed in range(6)]


@pytest.fixture
def checkpoints(tmp_path: Path) -> ExperimentCheckpoints:
    return ExperimentCheckpoints(tmp_path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(execution, "HELD_SECONDS", 0.0)
    with Interrupts():
        yield


def leave_stack(checkpoints: ExperimentCheckpoints, members: Sequence[PlannedTrial]) -> Path:
    """Leave what a process leaves that dies while it trains these as a stack."""
    folder = checkpoints.for_task(members).stack
    assert folder is not None
    log = TrainingLog({one.trial_id: one.trial for one in members})
    CheckpointFolder(folder).write(Checkpoint(1, 0, {}), log)
    return folder


def run(
    trials: Sequence[PlannedTrial], fuse: int, checkpoints: ExperimentCheckpoints, answers: Answers
) -> tuple[list[tuple[list[int], Path | None]], list[int]]:
    """The tasks, each as the places of its trials in the plan and the folder of its stack, and the
    places of the trials in the order in which they were claimed."""
    places = {one.trial_id: place for place, one in enumerate(trials)}
    asked: list[int] = []

    def claim(one: PlannedTrial) -> Claim:
        asked.append(places[one.trial_id])
        return answers(places[one.trial_id])

    executor = Noted()
    stacks, _ = stacks_of(trials, fuse, 1, checkpoints)
    running = execute(
        trials, executor, Interrupts(), Path(), False, claim, stacks, checkpoints=checkpoints
    )
    list(running)
    tasks = []
    for task in executor.tasks:
        assert task.checkpoints is not None
        tasks.append(([places[key] for key in task.trials], task.checkpoints.stack))
    return tasks, asked


def test_an_interrupted_stack_resumes_and_the_other_trials_are_stacked_anew(
    trials: list[PlannedTrial], checkpoints: ExperimentCheckpoints
) -> None:
    folder = leave_stack(checkpoints, [trials[1], trials[4], trials[5]])
    tasks, _ = run(trials, 2, checkpoints, lambda _: Claim.GRANTED)
    assert [members for members, _ in tasks] == [[0, 2], [1, 4, 5], [3]]
    assert tasks[1][1] == folder
    assert tasks[0][1] not in (None, folder)
    assert tasks[2][1] is None


def test_trials_that_another_has_run_leave_the_stack(
    trials: list[PlannedTrial], checkpoints: ExperimentCheckpoints
) -> None:
    folder = leave_stack(checkpoints, trials[:4])
    done = {0, 2, 3}
    tasks, _ = run(
        trials[:4], 8, checkpoints, lambda place: Claim.DONE if place in done else Claim.GRANTED
    )
    assert tasks == [([1], folder)]


def test_the_harness_that_claims_a_stacks_first_trial_claims_all(
    trials: list[PlannedTrial], checkpoints: ExperimentCheckpoints
) -> None:
    folder = leave_stack(checkpoints, trials)
    answers = iter([Claim.HELD, Claim.HELD])
    tasks, asked = run(trials, 8, checkpoints, lambda _: next(answers, Claim.GRANTED))
    assert tasks == [([0, 1, 2, 3, 4, 5], folder)]
    assert asked == [0, 0, *range(6)]


def test_trials_of_a_dead_process_resume_as_its_stack(
    trials: list[PlannedTrial], checkpoints: ExperimentCheckpoints
) -> None:
    """The process wrote its first checkpoint after this one had looked, and died. The other trials
    that it held train alone."""
    folders: list[Path] = []
    times = dict.fromkeys(range(6), 0)

    def answers(place: int) -> Claim:
        times[place] += 1
        if place == 5 and not folders:
            folders.append(leave_stack(checkpoints, trials[1:4]))
        return Claim.HELD if times[place] == 1 else Claim.GRANTED

    tasks, _ = run(trials, 3, checkpoints, answers)
    assert [members for members, _ in tasks] == [[0], [1, 2, 3], [4], [5]]
    assert tasks[1][1] == folders[0]
