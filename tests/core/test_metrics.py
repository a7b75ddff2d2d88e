"""A trial's best epoch and summary, from histories worked by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.metrics import Direction, Goal, best_epoch, summarise_trial
from harness.core.records import Measured

ACCURACY = Goal("val/accuracy", "max", target=0.8)


def history(*values: float | None) -> list[Measured]:
    """A measurement of each epoch from 0; None for an epoch without evaluation."""
    return [
        Measured(
            epoch, {"lr": 0.1} if value is None else {"lr": 0.1, "val/accuracy": value}, 10 * epoch
        )
        for epoch, value in enumerate(values)
    ]


def test_the_best_epoch_and_when_the_target_is_reached() -> None:
    summary = summarise_trial(history(0.1, 0.7, 0.9, 0.85), {"test/accuracy": 0.84}, ACCURACY)
    assert summary == {
        "final/test/accuracy": 0.84,
        "best/epoch": 2.0,
        "best/val/accuracy": 0.9,
        "epochs_to_target": 2.0,
        "examples_to_target": 20.0,
    }


def test_lower_may_be_better() -> None:
    goal = Goal("val/accuracy", "min", target=0.3)
    summary = summarise_trial(history(0.9, 0.5, 0.2, 0.4), {}, goal)
    assert (summary["best/epoch"], summary["epochs_to_target"]) == (2.0, 2.0)


def test_the_untrained_model_is_never_the_best() -> None:
    summary = summarise_trial(history(0.99, 0.5, 0.6), {}, ACCURACY)
    assert summary["best/epoch"] == 2.0
    assert "epochs_to_target" not in summary, "it was there before training began"


def test_the_earliest_of_equals_is_the_best() -> None:
    best = best_epoch(history(0.1, 0.5, 0.5, 0.4), ACCURACY)
    assert best is not None
    assert best.epoch == 1


def test_a_target_that_is_not_reached_has_no_metric() -> None:
    assert "epochs_to_target" not in summarise_trial(history(0.1, 0.2), {}, ACCURACY)
    assert "epochs_to_target" not in summarise_trial(
        history(0.1, 0.9), {}, Goal("val/accuracy", "max", None)
    )


def test_epochs_without_an_evaluation_are_skipped() -> None:
    summary = summarise_trial(history(0.1, None, 0.6, None), {}, ACCURACY)
    assert summary["best/epoch"] == 2.0
    assert best_epoch(history(None, None), ACCURACY) is None


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from(["train/accuracy", "train/loss", "val/accuracy", "test/accuracy"]),
    st.sampled_from(["max", "min"]),
)
def test_the_best_epoch_is_an_evaluated_one_whatever_the_metric(
    values: list[float], every: int, metric: str, direction: Direction
) -> None:
    """Metrics of the training split are measured after each epoch, all others at evaluations."""
    evaluated = {e for e in range(len(values) + 1) if e % every == 0 or e == len(values)}
    measurements = [
        Measured(
            epoch,
            {
                f"{split}/{measure}": value
                for split in ("train", "val", "test")
                if (split == "train" and epoch) or (split != "train" and epoch in evaluated)
                for measure in ("accuracy", "loss")
            },
            0,
        )
        for epoch, value in enumerate([0.0, *values])
    ]
    summary = summarise_trial(measurements, {}, Goal(metric, direction))

    best = max if direction == "max" else min
    expected = best(values[epoch - 1] for epoch in evaluated if epoch)
    assert summary["best/epoch"] in evaluated
    assert summary["best/test/accuracy"] == summary[f"best/{metric}"] == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_no_epoch_is_better_than_the_best(values: list[float], target: float) -> None:
    measurements = history(0.0, *values)
    summary = summarise_trial(measurements, {}, Goal("val/accuracy", "max", target))
    assert summary["best/val/accuracy"] == max(values)
    reached = [epoch for epoch, value in enumerate(values, start=1) if value >= target]
    assert summary.get("epochs_to_target") == (reached[0] if reached else None)
