"""A stack whose updates are replayed trains, to the last bit, as one whose updates are run; if
recording fails, it continues unrecorded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record
from harness.experiment.trial import Choice, Trial
from harness.training.checkpoint import Checkpoint, CheckpointPolicy
from harness.training.stacked import loop, speedup
from harness.training.stacked.stack import Stack
from tests.support import make_trial
from tests.training.stacked.stacked_support import train_items, train_records
from tests.training.stacked.tape_support import NoWaiting, TapeRecorder

RULES: dict[str, Any] = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adam": 0.01,
    "adamw": 0.01,
    "adam amsgrad": {"name": "adam", "amsgrad": True, "betas": [0.7, 0.8]},
    "adamw amsgrad": {"name": "adamw", "amsgrad": True, "weight_decay": 0.1},
    "momentum dampened": {"name": "momentum", "dampening": 0.5, "weight_decay": 0.01},
}


def grid(**fields: Any) -> list[Trial]:
    """Every rule, with coefficients that differ, on two seeds."""
    return [
        make_trial(
            optimizer=name if isinstance(rate, float) else rate,
            lr=rate if isinstance(rate, float) else 0.01,
            seed=seed,
            **({"epochs": 3} | fields),
        )
        for seed in (0, 1)
        for name, rate in RULES.items()
    ]


def trained(trials: list[Trial], root: Path) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {str(i): [] for i in range(len(trials))}
    keyed = [(str(i), trial) for i, trial in enumerate(trials)]
    for key, record in train_records(keyed, root, torch.device("cpu"), test_outputs=True):
        found[key].append(record)
    return found


def recorded(
    trials: list[Trial], root: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Record]]:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "recorder_for", lambda _: recorder)
        return trained(trials, root)


def told(records: dict[str, list[Record]]) -> set[str]:
    ends = [own[-1] for own in records.values()]
    return {end.metadata.get("cuda_graph", "") for end in ends if isinstance(end, Ended)}


def assert_same(mine: dict[str, list[Record]], theirs: dict[str, list[Record]]) -> None:
    for own, other in zip(mine.values(), theirs.values(), strict=True):
        assert [_bare(one) for one in own] == [_bare(one) for one in other]
        *_, one = own
        *_, two = other
        assert isinstance(one, Ended)
        assert isinstance(two, Ended)
        assert (one.test_outputs is None) == (two.test_outputs is None)
        if one.test_outputs is not None and two.test_outputs is not None:
            for name, tensor in two.test_outputs.state_dict.items():
                assert torch.equal(one.test_outputs.state_dict[name], tensor), name
            assert torch.equal(one.test_outputs.outputs, two.test_outputs.outputs)


def _bare(record: Record) -> Any:
    """Returns what does not depend on the machine, without tensors."""
    match record:
        case Measured():
            values = record.values.items()
            kept = {name: value for name, value in values if not name.startswith(MACHINE_DEPENDENT)}
            return (record.epoch, record.examples, kept)
        case BatchLosses():
            return (record.examples, record.losses)
        case Ended():
            return (record.outcome, record.final, record.reason)
    return "started"


SETTINGS: dict[str, dict[str, Any]] = {
    "a shorter last batch, and batch losses": {"log_every": 3},
    "whole batches alone": {
        "dataset": "breast_cancer",
        "loss": "bce",
        "val_fraction": 0.0,
        "batch_size": 35,
        "epochs": 4,
    },
    "clipped": {"grad_clip": 0.1},
    "dropout": {"model": {"name": "mlp", "hidden": [7], "dropout": 0.2}},
    "bfloat16": {"precision": "bf16"},
    "plateau": {"scheduler": {"name": "plateau", "patience": 0, "threshold": 0.9}, "epochs": 4},
    "by batch": {"scheduler": {"name": "cosine", "by": "batch", "warmup_epochs": 0.5}},
    "standardised, one logit": {"dataset": "breast_cancer", "loss": "bce", "batch_size": 16},
    "batch normalisation": {"model": {"name": "bn_cnn", "first": 2, "second": 2}},
    "dropout of channels": {
        "model": {"name": "dropout_cnn", "first": 2, "second": 2, "hidden": 4, "padding": "same"}
    },
}


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_replays_change_no_bit(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    trials = grid(**fields)
    if "first" in fields.get("model", {}):  # Convolutions take their time: of one seed.
        trials = trials[: len(RULES)]
    recorder = TapeRecorder()
    mine = recorded(trials, data_root, recorder, monkeypatch)
    assert told(mine) == {"captured"}
    assert recorder.recorded == 1
    assert recorder.replayed > 30
    plain = trained(trials, data_root)
    assert told(plain) == {""}
    assert_same(mine, plain)


class Own(nn.Module):
    """Dropout and statistics inside a module of one's own."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, 6), nn.Linear(6, outputs)
        self.norm, self.dropout = nn.BatchNorm1d(6, momentum=None), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.dropout(self.norm(self.first(x.flatten(1))).relu()))
        return out


def test_a_module_of_ones_own_is_recorded(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = grid()
    component = replace(
        plain[0].model.component,
        name="own",
        build=lambda _, info, outputs: Own(info.features, outputs),
    )
    choice = Choice(component, plain[0].model.options)
    trials = [replace(trial, model=choice) for trial in plain]
    mine = recorded(trials, data_root, TapeRecorder(), monkeypatch)
    assert told(mine) == {"captured"}
    assert_same(mine, trained(trials, data_root))


def test_augmented_batches_run_unrecorded(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = grid(augment=["noise"])
    mine = recorded(trials, data_root, TapeRecorder(), monkeypatch)
    assert told(mine) == {"not captured: augmentations draw anew for every batch"}
    assert_same(mine, trained(trials, data_root))


def test_a_stack_whose_rows_move_is_recorded_again(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        replace(trial, lr=inf) if i % 8 in (0, 3, 4, 5) else trial
        for i, trial in enumerate(grid(epochs=4))
    ]
    recorder = TapeRecorder()
    mine = recorded(trials, data_root, recorder, monkeypatch)
    assert told(mine) == {"captured"}
    assert recorder.recorded == 2
    outcomes = {own[-1].outcome for own in mine.values() if isinstance(own[-1], Ended)}
    assert outcomes == {Outcome.DONE, Outcome.DIVERGED}
    assert_same(mine, trained(trials, data_root))


def test_an_interrupted_epoch_resumes_recorded(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkpoint inside an epoch, after masks were drawn."""
    trials = grid(model={"name": "mlp", "hidden": [7], "dropout": 0.2}, epochs=4)
    keyed = [(str(i), trial) for i, trial in enumerate(trials)]
    device = torch.device("cpu")
    monkeypatch.setattr(loop, "recorder_for", lambda _: TapeRecorder())
    taken = [
        copy.deepcopy(item.state)
        for item in train_items(keyed, data_root, device, policy=CheckpointPolicy(every=0.0))
        if isinstance(item, Checkpoint) and (item.epoch, item.batch) == (1, 12)
    ]
    resumed: dict[str, list[Record]] = {key: [] for key, _ in keyed}
    (state,) = taken
    for item in train_items(keyed, data_root, device, test_outputs=True, state=state):
        assert not isinstance(item, Checkpoint)
        resumed[item[0]].append(item[1])
    assert told(resumed) == {"captured"}
    monkeypatch.undo()
    whole = trained(trials, data_root)
    assert_same(resumed, {key: [own[0], *own[3:]] for key, own in whole.items()})


def test_a_stack_is_recorded_before_its_speedup_is_measured(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = TapeRecorder()
    monkeypatch.setattr(speedup, "recorder_for", lambda _: recorder)
    monkeypatch.setattr(speedup, "MIN_STACK_SECONDS", inf)
    keyed = [(str(i), trial) for i, trial in enumerate(grid())]
    stack = Stack(keyed, data_root, torch.device("cpu"))
    assert speedup.measure_speedup(stack, data_root) is None
    assert (recorder.recorded, recorder.replayed) == (1, 2), "one that proves it, one measured"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"epochs": 2}, "fewer than 50 whole batches"),
        ({"optimizer": "rmsprop"}, "an optimizer in it has no rule for a whole stack"),
    ],
)
def test_updates_that_are_not_recorded_run(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], reason: str
) -> None:
    trials = [make_trial(**({"epochs": 3} | changed), seed=seed) for seed in (0, 1)]
    recorder = TapeRecorder()
    mine = recorded(trials, data_root, recorder, monkeypatch)
    assert told(mine) == {f"not captured: {reason}"}
    assert recorder.recorded == 0
    assert_same(mine, trained(trials, data_root))


class BreaksOff(TapeRecorder):
    """A recorder whose rehearsal fails at some operation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        with NoWaiting(self._at):
            yield


class RecordsNothing(TapeRecorder):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        super().record(work)
        raise RuntimeError("CUDA error: operation failed due to a previous error\n\nmore lines")


def no_replay(_: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def failing_replay(replay: Callable[[], None]) -> Callable[[], None]:
    def fail() -> None:
        replay()
        raise RuntimeError("out of memory")

    return fail


CAPTURING = "operation not permitted when stream is capturing"
FAILURES = {
    "forward": (lambda: BreaksOff(30), CAPTURING),
    "backward": (lambda: BreaksOff(50), CAPTURING),
    "update": (lambda: BreaksOff(90), CAPTURING),
    "record": (RecordsNothing, "CUDA error: operation failed due to a previous error"),
    "other": (lambda: TapeRecorder(no_replay), "what was recorded computes something else"),
    "replay": (lambda: TapeRecorder(failing_replay), "out of memory"),
}


@pytest.mark.parametrize(("recorder", "reason"), FAILURES.values(), ids=FAILURES)
def test_where_recording_fails_no_bit_changes(
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Callable[[], TapeRecorder],
    reason: str,
) -> None:
    trials = grid(model={"name": "mlp", "hidden": [7], "dropout": 0.2})
    mine = recorded(trials, data_root, recorder(), monkeypatch)
    assert told(mine) == {f"not captured: {reason}"}
    assert_same(mine, trained(trials, data_root))


def test_a_host_number_that_changes_is_detected(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that reads a Python number differs from its recording."""
    factor = iter(range(1, 10_000))
    plain = Stack.losses

    def scaled(self: Stack, logits: Tensor, targets: Tensor) -> Tensor:
        return plain(self, logits, targets) * next(factor)

    monkeypatch.setattr(Stack, "losses", scaled)
    mine = recorded(grid(), data_root, TapeRecorder(), monkeypatch)
    assert told(mine) == {"not captured: what was recorded computes something else"}
