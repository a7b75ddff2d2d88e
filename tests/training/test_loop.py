"""The training loop equals a plain loop, and yields the promised records."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.core.metrics import MACHINE_DEPENDENT, PEAK_MEMORY
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Started
from harness.core.seeding import generator, stream_seed
from harness.experiment.trial import Trial
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.support import make_trial


def records(trial: Trial, root: Path, test_outputs: bool = False) -> list[Any]:
    return list(train(TrainingSetup(trial, root), test_outputs))


def measured(trial: Trial, root: Path) -> list[Measured]:
    return [record for record in records(trial, root) if isinstance(record, Measured)]


def untimed(trial: Trial, root: Path) -> list[dict[str, float]]:
    """Returns what a trial measures, without times."""
    return [
        {k: v for k, v in point.values.items() if not k.startswith(MACHINE_DEPENDENT)}
        for point in measured(trial, root)
    ]


def test_equals_a_plain_loop_bit_for_bit(data_root: Path) -> None:
    trial = make_trial(optimizer={"name": "momentum", "momentum": 0.9}, lr=0.05)
    data = TrainingSetup(trial, data_root).data
    ((inputs, targets),) = data.train.batches(len(data.train))
    torch.manual_seed(stream_seed(0, "init"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    epoch_losses = []
    for epoch in (1, 2):
        order = torch.randperm(len(inputs), generator=generator(0, "order", epoch))
        total = 0.0
        for chosen in order.split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        epoch_losses.append(total / len(inputs))

    *_, ended = found = records(trial, data_root, test_outputs=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(ended.test_outputs.state_dict[name], tensor), name
    losses = [r.values["train/loss"] for r in found if isinstance(r, Measured) and r.epoch > 0]
    # The last batch is shorter than the others: a mean of batch means would differ.
    assert len(inputs) % 64 != 0
    assert losses == pytest.approx(epoch_losses, rel=1e-6)


def test_a_convolutions_weights_are_channels_last_and_stored_as_usual(
    data_root: Path,
) -> None:
    trial = make_trial(model={"name": "cnn", "channels": [4, 3], "hidden": 8, "padding": "same"})
    weights = TrainingSetup(trial, data_root).model.get_parameter("0.weight")
    assert weights.shape[0] > 1
    *_, ended = records(trial, data_root, test_outputs=True)
    kept = ended.test_outputs.state_dict["0.weight"]
    assert weights.stride()[1] == 1
    assert all(tensor.is_contiguous() for tensor in ended.test_outputs.state_dict.values())
    assert kept.shape == weights.shape


def test_records_come_in_order(data_root: Path) -> None:
    found = records(make_trial(), data_root)
    assert [type(record) for record in found] == [Started, Measured, Measured, Measured, Ended]
    assert [r.epoch for r in found[1:4]] == [0, 1, 2]
    n = found[0].metadata["examples"]["train"]
    assert [r.examples for r in found[1:4]] == [0, n, 2 * n]
    assert found[-1].outcome is Outcome.DONE
    assert found[-1].test_outputs is None


def test_measures_the_contracts_metrics(data_root: Path) -> None:
    untrained, *_, last = measured(make_trial(), data_root)
    wanted = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "accuracy")}
    wanted |= {"lr", "time/train_s", "time/eval_s"}
    assert set(untrained.values) == wanted
    wanted |= {"train/loss", "train/accuracy", "examples_per_s"}
    # No system but Linux can tell a trial's own memory on a CPU.
    assert set(last.values) - {PEAK_MEMORY} == wanted
    assert (PEAK_MEMORY in last.values) == (sys.platform == "linux")


def test_final_metrics_are_the_last_models(data_root: Path) -> None:
    *_, last, ended = records(make_trial(), data_root)
    assert ended.final["test/accuracy"] == last.values["test/accuracy"]
    assert ended.final["val/loss"] == last.values["val/loss"]
    assert {"train/accuracy", "test/f1", "test/roc_auc", "test/top5"} <= set(ended.final)


def test_training_twice_gives_the_same_to_the_last_bit(data_root: Path) -> None:
    trial = make_trial(model={"name": "mlp", "hidden": [16], "dropout": 0.3})
    alone = untimed(trial, data_root)
    records(make_trial(seed=5, optimizer="adam", lr=0.01), data_root)
    torch.manual_seed(99)
    assert untimed(trial, data_root) == alone


def test_another_trial_between_two_epochs_changes_nothing(data_root: Path) -> None:
    trial = make_trial(model={"name": "mlp", "hidden": [16], "dropout": 0.3})
    alone = untimed(trial, data_root)
    first = train(TrainingSetup(trial, data_root))
    second = train(TrainingSetup(replace(trial, seed=3), data_root))
    interleaved = []
    for record, _ in zip(first, second, strict=False):
        if isinstance(record, Measured):
            interleaved.append(record.values["val/loss"])
    assert interleaved == [point["val/loss"] for point in alone]


def test_optimizers_with_one_seed_start_from_the_same_weights(data_root: Path) -> None:
    starts = [
        untimed(make_trial(optimizer=name, lr=lr, seed=seed), data_root)[0]["val/loss"]
        for name, lr, seed in (("sgd", 0.1, 0), ("adam", 0.01, 0), ("sgd", 0.1, 1))
    ]
    assert starts[0] == starts[1] != starts[2]


def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged(data_root: Path) -> None:
    found = records(make_trial(lr=1e30, epochs=5), data_root, test_outputs=True)
    ended = found[-1]
    assert ended.outcome is Outcome.DIVERGED
    assert ended.final == {}
    assert ended.test_outputs is None
    assert "epoch 1" in ended.reason
    points = [record for record in found if isinstance(record, Measured)]
    assert [point.epoch for point in points] == [0]
    assert all(isfinite(value) for point in points for value in point.values.values())


def test_batch_losses_are_over_examples_seen(data_root: Path) -> None:
    trial = make_trial(log_every=7, epochs=2)
    found = records(trial, data_root)
    n = found[0].metadata["examples"]["train"]
    batches = [record for record in found if isinstance(record, BatchLosses)]
    steps = range(0, -(-n // 64), 7)
    assert batches[0].examples == tuple(min((i + 1) * 64, n) for i in steps)
    assert batches[1].examples[0] == n + 64
    assert batches[0].losses[0] == pytest.approx(2.3, abs=0.3)


def test_batch_losses_stop_before_the_first_that_is_not_finite(data_root: Path) -> None:
    found = records(make_trial(lr=1e30, log_every=1), data_root)
    (batches,) = (record for record in found if isinstance(record, BatchLosses))
    assert batches.losses
    assert all(isfinite(loss) for loss in batches.losses)


def test_evaluates_every_nth_epoch_and_the_last(data_root: Path) -> None:
    points = measured(make_trial(epochs=5, eval_every=2), data_root)
    assert [p.epoch for p in points if "val/loss" in p.values] == [0, 2, 4, 5]
    assert all("train/loss" in p.values for p in points[1:])


def test_without_validation_only_test_is_evaluated(data_root: Path) -> None:
    points = measured(make_trial(val_fraction=0.0), data_root)
    assert not any(name.startswith("val/") for point in points for name in point.values)


def test_evaluation_does_not_depend_on_its_batch_size(data_root: Path) -> None:
    model = {"name": "mlp", "hidden": [16], "dropout": 0.5}
    whole = untimed(make_trial(model=model, eval_batch_size=4096), data_root)
    parts = untimed(make_trial(model=model, eval_batch_size=7), data_root)
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_gradients_are_clipped_to_the_norm_asked(data_root: Path) -> None:
    trial = make_trial(epochs=1, batch_size=4096, lr=1.0, grad_clip=1e-3)
    parts = TrainingSetup(trial, data_root)
    before = [p.detach().clone() for p in parts.model.parameters()]
    list(train(parts))
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(parts.model.parameters(), before, strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_scheduler_sets_the_rate_of_each_batch(data_root: Path) -> None:
    points = measured(
        make_trial(scheduler={"name": "exponential", "gamma": 0.5}, epochs=3), data_root
    )
    assert [p.values["lr"] for p in points] == [0.1, 0.1, 0.05, 0.025]


def test_plateau_lowers_the_rate_when_nothing_improves(data_root: Path) -> None:
    scheduler = {"name": "plateau", "patience": 0, "threshold": 0.9}
    points = measured(make_trial(scheduler=scheduler, epochs=4), data_root)
    assert points[-1].values["lr"] < points[1].values["lr"]


def test_bf16_trains_and_is_not_fp32(data_root: Path) -> None:
    exact, rough = (untimed(make_trial(precision=p), data_root)[-1] for p in ("fp32", "bf16"))
    assert rough["val/loss"] != exact["val/loss"]
    assert rough["val/loss"] == pytest.approx(exact["val/loss"], rel=0.05)


@pytest.mark.parametrize("model", ["mlp", {"name": "bn_cnn", "first": 2, "second": 2}], ids=str)
def test_bf16_is_of_training_and_evaluation_is_in_fp32(model: Any, data_root: Path) -> None:
    fields: dict[str, Any] = {"model": model, "epochs": 1}
    parts = TrainingSetup(make_trial(**fields, precision="bf16"), data_root)
    found: list[Any] = list(train(parts, test_outputs=True))
    _, untrained, *_, last, ended = found
    exact = measured(make_trial(**fields), data_root)[0]
    for split in ("val", "test"):
        assert untrained.values[f"{split}/loss"] == exact.values[f"{split}/loss"]
    stored = ended.test_outputs
    parts.model.load_state_dict(stored.state_dict)
    parts.model.eval()
    ((inputs, targets),) = parts.data.test.batches(2048)
    with torch.inference_mode():
        outputs = parts.model(inputs)
    assert torch.equal(stored.outputs, outputs), "the logged model gives other outputs"
    assert last.values["test/accuracy"] == float((outputs.argmax(1) == targets).double().mean())
    assert ended.final["test/accuracy"] == last.values["test/accuracy"]


def test_a_closed_generator_leaves_no_trace(data_root: Path) -> None:
    running = train(TrainingSetup(make_trial(), data_root))
    next(running)
    next(running)
    assert isinstance(running, Generator)
    running.close()
    assert list(running) == []
