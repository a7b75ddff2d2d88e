"""Summaries over seeds and their order."""

from __future__ import annotations

import math
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.comparison import Question, compare
from harness.analysis.configs import Config
from harness.analysis.ranking import rank
from tests.stored import results, seeds, small_grid, trial_run


def config(
    name: str, value: float | None, *, task: str = "", diverged: int = 0, n: int = 3
) -> Config:
    n = 0 if value is None else n
    return Config(
        config_id=name,
        task=task,
        labels={"lr": "0.1"},
        n=n,
        mean=value,
        sd=None,
        test_mean=None,
        test_sd=None,
        test_n=1,
        trials=n + diverged,
        done=n,
        diverged=diverged,
        failed=0,
        interrupted=0,
        running=0,
    )


def order(*configs: Config, direction: str = "max") -> list[tuple[str, int | None]]:
    return [(c.config_id, c.rank) for c in rank(configs, "max" if direction == "max" else "min")]


def test_mean_and_deviation_over_seeds() -> None:
    """0.8, 0.9, 1.0: mean 0.9; deviations −.1, 0, .1 give √(.02 / 2) = 0.1."""
    (found,) = compare(results(*seeds([0.8, 0.9, 1.0])), Question()).configs

    assert found.n == found.trials == found.done == 3
    assert found.mean == pytest.approx(0.9)
    assert found.sd == pytest.approx(0.1)
    assert found.test_mean == pytest.approx(0.88)
    assert found.test_sd == pytest.approx(0.1)
    assert found.rank == 1


def test_one_seed_has_no_deviation() -> None:
    (found,) = compare(results(trial_run(0.8)), Question()).configs

    assert (found.n, found.mean, found.sd, found.test_mean) == (1, 0.8, None, None)


def test_missing_values_stay_missing() -> None:
    """A trial that failed, runs, was interrupted or diverged has no value, whatever it logged."""
    runs = [
        trial_run(0.9, seed=0),
        trial_run(0.1, seed=1, outcome="failed", status="FAILED"),
        trial_run(0.1, seed=2, outcome="interrupted", status="KILLED"),
        trial_run(0.1, seed=3, outcome=None, status="RUNNING"),
        trial_run(0.1, seed=4, outcome="diverged"),
    ]

    (found,) = compare(results(*runs), Question()).configs

    assert (found.n, found.mean) == (1, 0.9)
    assert (found.trials, found.done, found.failed) == (5, 1, 1)
    assert (found.interrupted, found.running, found.diverged) == (1, 1, 1)
    assert found.divergence == 0.5  # of those that finished


@pytest.mark.parametrize(("direction", "expected"), [("max", ["b", "a"]), ("min", ["a", "b"])])
def test_better_goes_first(direction: str, expected: list[str]) -> None:
    assert [
        n for n, _ in order(config("a", 0.5), config("b", 0.6), direction=direction)
    ] == expected


@pytest.mark.parametrize("direction", ["max", "min"])
def test_divergence_is_worse_than_any_value(direction: str) -> None:
    found = order(
        config("all diverged", None, diverged=3),
        config("nothing finished", None),
        config("half", 0.99, diverged=3),
        config("bad", 0.01),
        direction=direction,
    )

    assert found == [("bad", 1), ("half", 2), ("all diverged", 3), ("nothing finished", None)]


def test_equals_share_a_rank_and_the_next_is_counted_on() -> None:
    found = order(config("a", 0.5), config("b", 0.7), config("c", 0.7), config("d", 0.4))

    assert found == [("b", 1), ("c", 1), ("a", 3), ("d", 4)]


def test_the_order_of_a_sum_breaks_no_tie() -> None:
    one, other = (0.1 + 0.2 + 0.3) / 3, (0.3 + 0.2 + 0.1) / 3
    assert one != other

    assert [place for _, place in order(config("a", one), config("b", other))] == [1, 1]


def test_tasks_are_ranked_apart() -> None:
    found = order(
        config("a", 0.5, task="iris"),
        config("b", 0.9, task="digits"),
        config("c", 0.6, task="iris"),
    )

    assert found == [("c", 1), ("a", 2), ("b", 1)]


@pytest.mark.slow
@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=4), min_size=1, max_size=4))
def test_summaries_agree_with_the_standard_library(scores: list[list[float]]) -> None:
    runs = [run for i, some in enumerate(scores) for run in seeds(some, lr=0.1 * (i + 1))]

    found = {c.labels["lr"]: c for c in compare(results(*runs), Question()).configs}

    assert len(found) == len(scores)
    for i, some in enumerate(scores):
        one = next(c for lr, c in found.items() if math.isclose(float(lr), 0.1 * (i + 1)))
        assert one.mean == pytest.approx(mean(some), abs=1e-12)
        assert one.sd == pytest.approx(stdev(some), abs=1e-9)


def test_the_order_of_runs_changes_nothing() -> None:
    runs = small_grid()

    there = compare(results(*runs), Question())
    back = compare(results(*reversed(runs)), Question())

    assert [(c.config_id, c.rank) for c in there.configs] == [
        (c.config_id, c.rank) for c in back.configs
    ]
