"""A stack that resumes from a checkpoint is, to the last bit, one that was never interrupted."""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core.records import Ended, Measured, Outcome
from harness.experiment.trial import Choice, Trial
from harness.training import checkpoint
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint
from harness.training.stacked import loop
from harness.training.stacked.loop import KeyedRecord
from tests.resume_support import comparable
from tests.support import make_trial
from tests.training.stacked.stacked_support import train_items, train_records

Trials = list[tuple[str, Trial]]

SMALL = {"batch_size": 256, "epochs": 3}
RATES = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adam": 0.01,
    "adamw": 0.01,
    "rmsprop": 0.003,
    "Adamax": 0.01,
}
"""Every update rule, and two optimizers without one, of which one has no component file."""
FEW = ("adam", "rmsprop")
"""Fewer optimizers for convolutions, which take longer."""
DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.3}
STACKS: dict[str, dict[str, Any]] = {
    "every rule": {"model": DROPOUT},
    "batch norm": {"model": {"name": "bn_cnn", "first": 2, "second": 2}, "epochs": 2},
    "dropout of channels": {"model": {"name": "dropout_cnn", "padding": "same"}, "epochs": 2},
    "what schedules have seen": {
        "scheduler": {"name": "plateau", "patience": 0, "threshold": 0.9},
        "epochs": 4,
    },
    "by batch": {"scheduler": {"name": "cosine", "by": "batch", "warmup_epochs": 0.5}},
    "clipping, batch losses": {"grad_clip": 0.1, "log_every": 2},
    "bf16": {"model": DROPOUT, "precision": "bf16"},
    "augmented": {"model": DROPOUT, "augment": ["crop", "noise"]},
    "rare evaluation": {"eval_every": 2},
    "standardised, one logit": {"dataset": "breast_cancer", "loss": "bce", "batch_size": 128},
}


def stack_of(**fields: Any) -> Trials:
    found = []
    names = FEW if str(fields.get("model")).count("_cnn") else RATES
    for name, lr in RATES.items():
        for seed in (0, 1) if name in names else ():
            trial = make_trial(**{**SMALL, "lr": lr, "seed": seed, **fields})
            trial = replace(trial, optimizer=Choice.of("optimizers", {"name": name}))
            found.append((f"{name} {seed}", trial))
    return found


def diverging(trials: Trials, keys: Iterable[str]) -> Trials:
    bad = set(keys)
    return [(key, replace(t, lr=1e30) if key in bad else t) for key, t in trials]


def by_key(items: Iterable[KeyedRecord | Checkpoint]) -> dict[str, list[Any]]:
    """Returns each trial's records without times."""
    found = defaultdict(list)
    for item in items:
        if not isinstance(item, Checkpoint):
            found[item[0]].append(item[1])
    return {key: comparable(records) for key, records in found.items()}


def kept(cut: Checkpoint) -> dict[str, Any]:
    """Returns the state after writing and reading it."""
    buffer = io.BytesIO()
    torch.save(dict(cut.state), buffer)
    buffer.seek(0)
    state: dict[str, Any] = torch.load(buffer, weights_only=True)
    return state


def states(trials: Trials, root: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Returns the states of checkpoints after every batch and every epoch."""
    items = train_items(trials, root, policy=CheckpointPolicy(0))
    cuts = (item for item in items if isinstance(item, Checkpoint))
    return {(cut.epoch, cut.batch): kept(cut) for cut in cuts}


def check(trials: Trials, root: Path, state: dict[str, Any], whole: dict[str, list[Any]]) -> None:
    """Checks that a resumed stack yields the rest of the records of each unfinished trial."""
    torch.manual_seed(7)  # Nothing may depend on what was drawn before.
    rest = by_key(train_items(trials, root, test_outputs=True, state=state))
    assert set(rest) == set(state["living"])
    for key, records in rest.items():
        assert len(records) > 1
        assert records[1:] == whole[key][len(whole[key]) - len(records) + 1 :], key


@pytest.mark.parametrize("fields", STACKS.values(), ids=STACKS)
def test_a_stack_interrupted_anywhere_ends_as_if_it_had_not_been(
    fields: dict[str, Any], data_root: Path
) -> None:
    trials = stack_of(**fields)
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    cuts = states(trials, data_root)
    middle = [place for place in cuts if place[1]]
    for place in (middle[0], middle[len(middle) // 2], middle[-1], (1, 0)):
        check(trials, data_root, cuts[place], whole)


class Own(nn.Module):
    """A module of one's own: dropout that is used twice, batch norm, a buffer assigned anew."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 10)
        self.norm, self.drop = nn.BatchNorm1d(8, momentum=None), nn.Dropout(0.3)
        self.register_buffer("centre", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * x.mean(0)
        inside = self.drop(self.norm(self.body(self.drop(x - self.centre))))
        out: Tensor = self.head(inside.relu())
        return out


def test_modules_of_ones_own_resume_with_all_their_state(data_root: Path) -> None:
    component = replace(make_trial().model.component, name="own", build=lambda *_: Own())
    own = Choice(component, make_trial().model.options)
    trials = [(key, replace(trial, model=own)) for key, trial in stack_of()[::3]]
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    cuts = states(trials, data_root)
    for place in ((0, 1), (1, 3), (2, 0)):
        check(trials, data_root, cuts[place], whole)


@pytest.mark.slow
@pytest.mark.parametrize("fields", STACKS.values(), ids=STACKS)
def test_a_stack_interrupted_at_every_batch_ends_as_if_it_had_not_been(
    fields: dict[str, Any], data_root: Path
) -> None:
    trials = diverging(stack_of(**fields), ["adam 0"])
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    cuts = states(trials, data_root)
    assert len(cuts) >= 8
    for state in cuts.values():
        check(trials, data_root, state, whole)


@pytest.mark.parametrize("count", [3, 9], ids=["they keep their rows", "the other rows move"])
def test_trials_that_diverged_before_keep_their_rows(count: int, data_root: Path) -> None:
    trials = stack_of(model=DROPOUT)
    trials = diverging(trials, [key for key, _ in trials[1 : 1 + count]])
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    ends = {key: records[-1][0] for key, records in whole.items()}
    assert sum(outcome is Outcome.DIVERGED for outcome in ends.values()) == count
    cuts = states(trials, data_root)
    for place, state in cuts.items():
        if place in ((0, 3), (1, 2), (2, 0)):
            assert len(state["rows"]) == (14 if place[0] == 0 or count == 3 else 14 - count)
            check(trials, data_root, state, whole)


def test_rows_move_after_a_resume_as_they_would_have(data_root: Path) -> None:
    """The rows of the resumed stack move in the same epoch."""
    trials = stack_of(model=DROPOUT)
    trials = diverging(trials, [key for key, _ in trials[2:11]])
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    state = states(trials, data_root)[0, 4]
    assert len(state["living"]) == 14
    check(trials, data_root, state, whole)


def test_random_numbers_drawn_while_it_is_written_change_nothing(data_root: Path) -> None:
    trials = stack_of(model=DROPOUT)
    whole = by_key(train_records(trials, data_root, test_outputs=True))
    items = []
    for item in train_items(trials, data_root, test_outputs=True, policy=CheckpointPolicy(0)):
        items.append(item)
        torch.manual_seed(7)
    assert by_key(items) == whole


def test_a_stack_that_is_asked_to_stop_yields_a_checkpoint_after_the_batch(data_root: Path) -> None:
    policy = CheckpointPolicy()
    running = train_items(stack_of(), data_root, policy=policy)
    for item in running:
        if isinstance(item, Checkpoint):
            break
        policy.stop_requested = True
    assert isinstance(item, Checkpoint)
    assert (item.epoch, item.batch) == (0, 1)


def test_checkpoints_are_far_apart_unless_asked_for(data_root: Path) -> None:
    items = train_items(stack_of(), data_root, policy=CheckpointPolicy())
    assert not any(isinstance(item, Checkpoint) for item in items)


def test_no_more_than_one_interval_lies_between_two(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances a second at every batch: this bounds what a kill at any moment costs."""
    clock = iter(range(10_000))
    policy = CheckpointPolicy(every=5)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    places = [0]
    for item in train_items(stack_of(batch_size=128, epochs=6)[:3], data_root, policy=policy):
        if isinstance(item, Checkpoint):
            places.append(item.epoch * 11 + item.batch)
            policy.record_write(0.0)
    gaps = [later - sooner for sooner, later in pairwise(places)]
    assert max(*gaps, 6 * 11 - places[-1]) <= 5
    assert min(gaps) >= 2, "and none right after another"


def test_a_long_evaluation_has_a_checkpoint_before_it(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill during the evaluation costs no training. On this clock training takes no time."""
    measured = loop._outputs

    def slow(*arguments: Any) -> Any:
        time.sleep(0.1)
        return measured(*arguments)

    monkeypatch.setattr(loop, "_outputs", slow)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: 0.0))
    trials = stack_of(eval_every=2)[:3]
    for every, places in ((0.1, [(1, 6), (2, 6)]), (3600.0, [])):
        items = train_items(trials, data_root, policy=CheckpointPolicy(every))
        cuts = [item for item in items if isinstance(item, Checkpoint)]
        assert [(cut.epoch, cut.batch) for cut in cuts] == places


def test_a_stack_interrupted_after_its_last_epoch_only_ends(data_root: Path) -> None:
    trials = stack_of()
    state = states(trials, data_root)[3, 0]
    rest = list(train_items(trials, data_root, test_outputs=True, state=state))
    records = [item[1] for item in rest if not isinstance(item, Checkpoint)]
    assert not any(isinstance(record, Measured) for record in records)
    assert sum(isinstance(record, Ended) for record in records) == len(trials)
    check(trials, data_root, state, by_key(train_records(trials, data_root, test_outputs=True)))


def test_a_checkpoint_of_another_stack_is_refused(data_root: Path) -> None:
    trials = stack_of()
    state = states(trials, data_root)[1, 3]
    others = [(key, replace(trial, model=make_trial(model=DROPOUT).model)) for key, trial in trials]
    wider = [
        (key, replace(trial, model=make_trial(model={"name": "mlp", "hidden": [17]}).model))
        for key, trial in trials
    ]
    for there, changed, why in (
        (wider, state, "size mismatch"),
        (trials[1:], state, "of other trials"),
        (trials, {**state, "device": "cuda"}, "of the device cuda"),
        (trials, {**state, "format": 0}, "another version"),
    ):
        with pytest.raises(UnusableCheckpoint, match=why):
            train_items(there, data_root, state=changed)
    assert train_items(others, data_root, state=state)  # Dropout has no weights.
