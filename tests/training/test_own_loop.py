"""Training loops of a user's own: what they receive, what they may yield, and how they go on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.errors import InputError
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.execution.executors.base import TOLD_TO_STOP, request_stop
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.execution.run_task import run
from harness.experiment.loading import load
from harness.experiment.plan import PlannedTrial, make_plan
from harness.training.data import load_splits
from harness.training.setup import TrainingSetup

EXPERIMENT = """
code: own.py
trial:
  training_loop: {loop}
  device: cpu
  epochs: 3
{more}
metric: {metric}
direction: max
"""


def plan(
    folder: Path, code: str, more: str = "", metric: str = "val/reward", loop: str = "loop"
) -> list[PlannedTrial]:
    """The trials of an experiment whose training loop is `code`."""
    (folder / "own.py").write_text("import harness\n" + textwrap.dedent(code))
    file = folder / "own.yaml"
    file.write_text(EXPERIMENT.format(loop=loop, more=textwrap.indent(more, "  "), metric=metric))
    return list(make_plan(load(file)).trials)


def train(
    planned: PlannedTrial, checkpoints: ExperimentCheckpoints | None = None, metric: str = ""
) -> list[Record]:
    return list(run(make_task(Path(), True, checkpoints, None, [planned], metric=metric)))


def end_of(records: Sequence[Record]) -> Ended:
    ended = records[-1]
    assert isinstance(ended, Ended)
    return ended


def values(records: Sequence[Record], name: str) -> list[float]:
    return [record.values[name] for record in records if isinstance(record, Measured)]


COUNTS = """
@harness.training_loop
def loop(trial: harness.TrialContext, start: float = 0.5):
    for epoch in range(trial.epochs):
        yield {"val/reward": start + epoch, "train/steps": 10}
"""


def test_each_yield_is_an_epoch(tmp_path: Path) -> None:
    records = train(plan(tmp_path, COUNTS, "training_loop.start: 2.0")[0])
    assert isinstance(records[0], Started)
    assert values(records, "val/reward") == [2, 3, 4]
    assert [r.epoch for r in records if isinstance(r, Measured)] == [1, 2, 3]
    seconds = values(records, "time/train_s")
    assert seconds == sorted(seconds)
    ended = end_of(records)
    assert ended.outcome is Outcome.DONE
    assert ended.final == {"val/reward": 4, "train/steps": 10}
    assert not ended.reason


ENDLESS = """
@harness.training_loop
def loop(trial):
    try:
        while True:
            yield {"val/reward": 1}
    finally:
        open("closed", "w").close()
"""


def test_a_loop_is_ended_after_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = train(plan(tmp_path, ENDLESS)[0])
    assert len(values(records, "val/reward")) == 3
    assert end_of(records).outcome is Outcome.DONE
    assert Path("closed").exists()


@pytest.mark.parametrize(
    "code",
    [
        "def loop(trial):\n    yield {'val/reward': 1}",
        "def loop(trial):\n    return ({'val/reward': n} for n in range(1, 3))",
        "def loop(trial):\n    return [{'val/reward': 1}]",
        "class loop(list):\n def __init__(self, trial): self.append({'val/reward': 1})",
        "def inner():\n    yield {'val/reward': 1}\ndef loop(trial):\n    yield from inner()",
    ],
    ids=["generator", "expression", "list", "class", "nested"],
)
def test_a_loop_that_ends_early_is_done_and_says_so(tmp_path: Path, code: str) -> None:
    records = train(plan(tmp_path, code, loop="own.py:loop")[0])
    ended = end_of(records)
    assert ended.outcome is Outcome.DONE
    assert "of 3 epochs" in ended.reason
    assert ended.final["val/reward"] in (1, 2)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("numpy.float32(0.5)", 0.5),
        ("numpy.array([2])", 2),
        ("torch.tensor(0.5, requires_grad=True)", 0.5),
        ("torch.ones(1)", 1),
    ],
)
def test_numbers_of_any_library(tmp_path: Path, value: str, number: float) -> None:
    code = f"import numpy, torch\ndef loop(trial):\n    yield {{'val/reward': {value}}}"
    records = train(plan(tmp_path, code, loop="own.py:loop")[0])
    assert values(records, "val/reward") == [number]


WRONG = {
    "text": ("yield 'val/reward 0.5'", 3, "yielded text, and not a mapping"),
    "number": ("yield 0.5", 3, "yielded a float, and not a mapping"),
    "nothing": ("yield", 3, "yielded nothing, and not a mapping"),
    "empty": ("yield {}", 3, "yielded no metric"),
    "plain name": ("yield {'reward': 1}", 3, "write 'val/reward'"),
    "other split": ("yield {'valid/my reward': 1}", 3, "write 'val/my_reward'"),
    "no name": ("yield {1: 1}", 3, "yielded a metric 1"),
    "text as value": ("yield {'val/reward': '1'}", 3, "yielded val/reward = text, and not a"),
    "a list": ("yield {'val/reward': [1, 2]}", 3, "yielded val/reward = a list, and not a"),
    "a truth": ("yield {'val/reward': True}", 3, "yielded val/reward = a bool, and not a"),
    "a vector": ("yield {'val/reward': torch.ones(2)}", 3, "= a Tensor, and not a number"),
    "another metric": ("yield {'val/rewards': 1}", 3, "did not yield val/reward, which ranks"),
    "no yields": ("return\n    yield", 2, "ended and yielded nothing"),
    "returns": ("return {'val/reward': 1}", 2, "returned a dict, and not a generator"),
    "returns nothing": ("pass", 2, "returned nothing, and not a generator"),
    "fewer": (
        "yield {'val/reward': 1, 'val/x': 1}\n    yield {'val/reward': 1}",
        4,
        "other metrics than before\n    val/x is missing",
    ),
    "more": (
        "yield {'val/reward': 1}\n    yield {'val/reward': 1, 'test/x': 1}",
        4,
        "other metrics than before\n    test/x is new",
    ),
    "raises": ("yield {'val/reward': 1}\n    1 / 0", 4, "ZeroDivisionError: division by zero"),
    "raises at once": ("raise ValueError('no')", 3, "ValueError: no"),
    "exits": ("import sys\n    sys.exit()\n    yield", 4, "called sys.exit"),
    "raises when closed": (
        "try:\n        while True: yield {'val/reward': 1}\n    finally: raise ValueError('x')",
        5,
        "ValueError: x",
    ),
    "goes on when closed": (
        "try:\n        while True: yield {'val/reward': 1}\n    except GeneratorExit: yield {}",
        5,
        "yielded once more after it was ended",
    ),
    "asks for data": ("trial.examples('test')\n    yield", 3, "name a dataset in the experiment"),
    "asks for a model": ("trial.model()\n    yield", 3, "name a model in the experiment"),
}


@pytest.mark.parametrize(("body", "line", "what"), WRONG.values(), ids=WRONG)
def test_a_wrong_loop_is_told_with_its_line(
    tmp_path: Path, body: str, line: int, what: str
) -> None:
    code = f"def loop(trial):\n    {body}"
    (planned,) = plan(tmp_path, code.replace("torch", "__import__('torch')"), loop="own.py:loop")
    ended = end_of(train(planned, metric="val/reward"))
    assert ended.outcome is Outcome.FAILED
    assert what in ended.reason
    assert ended.reason.startswith(f"own.py:{line}: ")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_is_not_finite_diverged(tmp_path: Path, number: str) -> None:
    code = "def loop(trial):\n  yield {'val/reward': 1}\n  yield {'val/reward': float('NUMBER')}"
    code = code.replace("NUMBER", number)
    records = train(plan(tmp_path, code, loop="own.py:loop")[0])
    ended = end_of(records)
    assert ended.outcome is Outcome.DIVERGED
    assert ended.reason == f"own.py:4: training_loop own.py:loop yielded val/reward = {number}"
    assert values(records, "val/reward") == [1]


DRAWS = """
import random, numpy, torch
@harness.training_loop
def loop(trial):
    start = trial.resume()
    for _ in range(start, trial.epochs):
        drawn = [random.random(), numpy.random.rand(), torch.rand(1).item()]
        yield dict(zip(["val/reward", "val/b", "val/c"], drawn))
"""


def test_all_generators_are_seeded_by_the_trial(tmp_path: Path) -> None:
    trials = plan(tmp_path, DRAWS) + plan(tmp_path, DRAWS) + plan(tmp_path, DRAWS, "seed: 1")
    drawn = []
    for planned in trials:
        torch.rand(3)
        records = train(planned)
        drawn.append([values(records, f"val/{name}") for name in ("reward", "b", "c")])
    assert drawn[0] == drawn[1]
    flat = [number for each in (drawn[0], drawn[2]) for series in each for number in series]
    assert len(set(flat)) == len(flat)


CHECKPOINTS = """
import random
@harness.training_loop
def loop(trial):
    total, start = 0.0, trial.resume()
    if start:
        total = float((trial.folder / f"{start}.txt").read_text())
    for epoch in range(start + 1, trial.epochs + 1):
        total += random.random()
        (trial.folder / f"{epoch}.txt").write_text(repr(total))
        yield {"val/reward": total}
"""


def interrupted(
    planned: PlannedTrial, checkpoints: ExperimentCheckpoints, epochs: int
) -> list[Record]:
    """What a trial records until it is killed after so many epochs, and then from its start on."""
    for record in run(make_task(Path(), True, checkpoints, None, [planned])):
        if isinstance(record, Measured) and record.epoch == epochs + 1:
            break  # Its own checkpoint is written, and that of the harness is not.
    return train(planned, checkpoints)


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_loop_goes_on_from_its_own_checkpoint(tmp_path: Path, epochs: int) -> None:
    (planned,) = plan(tmp_path, CHECKPOINTS)
    whole = values(train(planned), "val/reward")
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints")
    records = interrupted(planned, checkpoints, epochs)
    assert values(records, "val/reward") == whole
    assert isinstance(records[0], Started)
    assert records[0].metadata.get("resumed") == (1 if epochs else None)
    assert end_of(records).final == {"val/reward": whole[-1]}
    checkpoints.finish(planned, done=True)
    assert not (tmp_path / "checkpoints").exists()


def test_a_loop_that_is_done_but_not_stored_has_its_result(tmp_path: Path) -> None:
    (planned,) = plan(tmp_path, CHECKPOINTS)
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints")
    first = train(planned, checkpoints)
    again = train(planned, checkpoints)
    assert values(again, "val/reward") == values(first, "val/reward")
    assert end_of(again).final == end_of(first).final


def test_a_loop_without_checkpoints_starts_again(tmp_path: Path) -> None:
    code = COUNTS.replace("yield", "(trial.folder / str(epoch)).touch(); yield")
    (planned,) = plan(tmp_path, code)
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints")
    records = interrupted(planned, checkpoints, 1)
    assert values(records, "val/reward") == [0.5, 1.5, 2.5]
    assert isinstance(records[0], Started)
    assert "resumed" not in records[0].metadata


def test_it_stops_between_two_epochs_when_it_is_asked_to(tmp_path: Path) -> None:
    (planned,) = plan(tmp_path, CHECKPOINTS)
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints")
    records: list[Any] = []
    for record in run(make_task(Path(), True, checkpoints, None, [planned])):
        records.append(record)
        if isinstance(record, Measured) and record.epoch == 1:
            assert request_stop()
    assert records[-1] is TOLD_TO_STOP
    assert len(values(train(planned, checkpoints), "val/reward")) == 3


BUILT = """
import torch
@harness.training_loop
def loop(trial, data: harness.DataInfo):
    assert data.classes == 10 and trial.data is not None
    model, loss = trial.model(), trial.loss()
    optimizer = trial.optimizer(model)
    inputs, targets = trial.examples("val")
    for epoch in range(1, trial.epochs + 1):
        losses = []
        for x, y in trial.batches(epoch):
            optimizer.zero_grad()
            loss(model(x), y).mean().backward()
            optimizer.step()
        with torch.no_grad():
            yield {"val/loss": loss(model(inputs), targets).double().mean()}
"""


def test_what_is_built_is_that_of_the_harness(tmp_path: Path) -> None:
    """A loop that trains as the harness does has its results, to the last bit."""
    more = "dataset: digits\nmodel: mlp\noptimizer: adamw\nlr: 0.01\n"
    (own,) = plan(tmp_path, BUILT, more, metric="val/accuracy")
    (harness_own,) = plan(tmp_path, BUILT, more, metric="val/accuracy", loop="none")
    losses = values(train(own), "val/loss")
    records = train(harness_own)
    assert losses == values(records, "val/loss")[1:]
    assert own.trial_id != harness_own.trial_id
    setup = TrainingSetup(own.trial, Path())
    splits = load_splits(own.trial, Path(), setup.device)
    assert splits.val is not None


def test_a_stack_leaves_it_out_and_says_why(tmp_path: Path) -> None:
    from harness.execution.stacking import OWN_LOOP, plan_stacks

    trials = plan(tmp_path, COUNTS) + plan(tmp_path, COUNTS, "seed: 1")
    stacking = plan_stacks(trials, "auto")
    assert not stacking.stacks
    assert [reason for _, reason in stacking.singles] == [OWN_LOOP] * 2


def test_the_first_parameter_takes_the_trial(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must take the trial .*\(own\.py:2\)") as error:
        plan(tmp_path, "def loop():\n    yield {}", loop="own.py:loop")
    assert "harness.TrialContext" in str(error.value)
