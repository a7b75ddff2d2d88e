"""The learning rate: a warm-up before every schedule, observed metrics, resuming."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.components.base import Horizon, Scheduler
from harness.experiment.trial import Choice
from harness.training.learning_rate import LearningRate
from tests.support import registered

EPOCHS, STEPS = 5, 4
HORIZON = Horizon(EPOCHS, STEPS)
TIMED = tuple(name for name, record in registered(Scheduler).items() if record.driven_by == "time")


def choice(name: str, **options: Any) -> Choice[Scheduler]:
    return Choice.of("schedulers", {"name": name, **options})


def table(scheduler: Choice[Scheduler], base: float, horizon: Horizon) -> list[float]:
    """The learning rate of every batch of a run, [epochs × steps_per_epoch]."""
    rate = LearningRate(scheduler, base, horizon)
    return [rate.at(batch) for batch in range(horizon.epochs * horizon.steps_per_epoch)]


def test_horizon_counts_what_the_warmup_leaves() -> None:
    assert (HORIZON.units("epoch"), HORIZON.units("batch")) == (5, 20)
    # 6 of 20 batches are gone: 14 are left, 3 epochs and a half
    part = Horizon(EPOCHS, STEPS, warmup=6)
    assert (part.units("epoch"), part.units("batch")) == (4, 14)
    over = Horizon(EPOCHS, STEPS, warmup=30)
    assert (over.units("epoch"), over.units("batch")) == (1, 1)


def test_warmup_table() -> None:
    rates = table(choice("constant", warmup_epochs=1.5, warmup_start=0.25), 2.0, HORIZON)
    assert rates == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, *[2.0] * 14]


def test_the_scheduler_named_warmup_warms_up_for_an_epoch() -> None:
    assert table(choice("warmup"), 1.0, HORIZON) == [0, 0.25, 0.5, 0.75, *[1.0] * 16]


def test_warmup_then_cosine_over_the_rest() -> None:
    rates = table(choice("cosine", by="batch", warmup_epochs=1.0), 1.0, Horizon(2, 2))
    assert rates == pytest.approx([0, 0.5, 1, 0.5])
    rates = table(choice("linear", warmup_epochs=1.0), 1.0, Horizon(3, 2))
    assert rates == [0, 0.5, 1, 1, 0.5, 0.5]


def test_epochs_begin_at_the_end_of_a_fractional_warmup() -> None:
    rates = table(choice("exponential", gamma=0.5, warmup_epochs=0.5), 1.0, Horizon(2, 4))
    assert rates == [0, 0.5, 1, 1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("by", ["epoch", "batch"])
@pytest.mark.parametrize("warmup", [0.0, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("name", TIMED)
def test_warmup_in_front_of_every_schedule(name: str, warmup: float, by: str) -> None:
    chosen = choice(name, by=by, warmup_epochs=warmup, warmup_start=0.2)
    batches = round(warmup * STEPS)
    rise = [0.3 * (0.2 + 0.8 * b / batches) for b in range(batches)]
    left = EPOCHS * STEPS - batches
    # The schedule alone, over a run as long as what is left.
    if by == "batch":
        alone = chosen.component.build(chosen.options, Horizon(1, left))
        assert callable(alone)
        rest = [alone(0.3, t) for t in range(left)]
    else:
        alone = chosen.component.build(chosen.options, Horizon(-(-left // STEPS), STEPS))
        assert callable(alone)
        rest = [alone(0.3, t // STEPS) for t in range(left)]
    assert table(chosen, 0.3, HORIZON) == pytest.approx([*rise, *rest], rel=1e-15)


def test_warmup_in_front_of_a_metric_schedule() -> None:
    rate = LearningRate(choice("plateau", patience=0, factor=0.5, warmup_epochs=1.0), 1.0, HORIZON)
    assert [rate.at(b) for b in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    for loss in (1.0, 2.0):
        rate.observe({"val/loss": loss})
    assert [rate.at(b) for b in range(6)] == [0, 0.125, 0.25, 0.375, 0.5, 0.5]


def test_a_run_shorter_than_its_warmup_only_rises() -> None:
    for name in TIMED:
        rates = table(choice(name, warmup_epochs=4.0), 1.0, Horizon(2, 2))
        assert rates == [0, 0.125, 0.25, 0.375]


@settings(deadline=None)
@given(
    name=st.sampled_from(TIMED),
    by=st.sampled_from(["epoch", "batch"]),
    warmup=st.sampled_from([0.0, 0.5, 1.0]),
    epochs=st.integers(1, 6),
    steps=st.integers(1, 6),
)
def test_constant_within_an_epoch_only_where_it_says_so(
    name: str, by: str, warmup: float, epochs: int, steps: int
) -> None:
    chosen = choice(name, by=by, warmup_epochs=warmup)
    if not LearningRate(chosen, 1.0, Horizon(epochs, steps)).constant_within_epoch:
        return
    rates = table(chosen, 1.0, Horizon(epochs, steps))
    for first in range(0, len(rates), steps):
        assert len(set(rates[first : first + steps])) == 1


@pytest.mark.parametrize(
    ("name", "options", "horizon", "constant"),
    [
        ("cosine", {}, HORIZON, True),
        ("plateau", {}, HORIZON, True),
        ("cosine", {"by": "batch"}, HORIZON, False),
        ("cosine", {"warmup_epochs": 1.0}, HORIZON, False),
        ("plateau", {"warmup_epochs": 1.0}, HORIZON, False),
        ("onecycle", {}, HORIZON, False),
        ("onecycle", {}, Horizon(5, 1), True),
    ],
)
def test_constant_within_epoch(
    name: str, options: dict[str, Any], horizon: Horizon, constant: bool
) -> None:
    assert LearningRate(choice(name, **options), 1.0, horizon).constant_within_epoch is constant


def test_observes_only_what_it_watches_and_only_where_it_was_measured() -> None:
    rate = LearningRate(
        choice("plateau", metric="val/accuracy", mode="max", patience=0, factor=0.5), 1.0, HORIZON
    )
    assert rate.watches == "val/accuracy"
    rate.observe({"val/accuracy": 0.9, "val/loss": 1.0})
    for _ in range(3):
        rate.observe({"train/accuracy": 0.1, "val/loss": 9.0})
    assert rate.at(0) == 1.0
    rate.observe({"val/accuracy": 0.8, "val/loss": 0.1})
    assert rate.at(0) == 0.5


def test_a_schedule_of_time_observes_nothing() -> None:
    rate = LearningRate(choice("cosine"), 1.0, HORIZON)
    before = [rate.at(b) for b in range(20)]
    for loss in (1.0, 2.0, 3.0):
        rate.observe({"val/loss": loss})
    assert rate.watches is None
    assert rate.state() == {}
    assert [rate.at(b) for b in range(20)] == before


def test_resumes_where_it_was() -> None:
    chosen = choice("plateau", patience=1, factor=0.5, cooldown=1)
    losses = [1.0, 2.0, 2.0, 2.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    whole = LearningRate(chosen, 1.0, HORIZON)
    rates = []
    for loss in losses:
        whole.observe({"val/loss": loss})
        rates.append(whole.at(0))
    assert any(late < early for early, late in pairwise(rates))
    for cut in range(len(losses)):
        first, second = (LearningRate(chosen, 1.0, HORIZON) for _ in range(2))
        for loss in losses[:cut]:
            first.observe({"val/loss": loss})
        second.load(first.state())
        resumed = []
        for loss in losses[cut:]:
            second.observe({"val/loss": loss})
            resumed.append(second.at(0))
        assert resumed == rates[cut:]


def test_loading_nothing_into_a_schedule_of_time() -> None:
    rate = LearningRate(choice("step"), 1.0, HORIZON)
    rate.load(LearningRate(choice("step"), 1.0, HORIZON).state())
    assert rate.at(0) == 1.0
