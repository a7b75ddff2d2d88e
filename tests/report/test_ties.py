"""Ties are decided once: what the leaderboard calls equal, no section ranks by its last bits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.comparison import Question
from harness.analysis.resolution import earliest_best
from harness.analysis.sensitivity import FinalScores, sensitivity
from harness.report.section import Report, build_report, choose_sections
from tests.stored import results, trial_run

SIZES = (97, 360, 1797, 8192)
ORDERS = list(permutations(range(4)))
"""Orders in which hits are given to seeds: the order of a sum changes its last bits."""


def report_of(size: int, hits: Sequence[int], configs: int = 24) -> Report:
    """Configs that differ in optimizer and lr, with the same hits in other orders of the seeds, on
    two data sets."""
    runs = [
        trial_run(
            hits[seed] / size,
            test=hits[-1 - seed] / size,
            optimizer=("adam", "momentum", "sgd")[number % 3],
            lr=0.001 * (1 + number // 3),
            seed=place,
            dataset=dataset,
        )
        for dataset in ("digits", "wine")
        for number in range(configs)
        for place, seed in enumerate(ORDERS[number % len(ORDERS)])
    ]
    names = [
        "leaderboard",
        "best_of_each",
        "across_tasks",
        "verdict",
        "importance",
        "budget",
        "paired",
    ]
    return build_report(results(*runs), Question(), choose_sections(names))


@settings(max_examples=4, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.integers(50, 97), min_size=4, max_size=4))
def test_configs_of_equal_means_are_equal_everywhere(size: int, hits: list[int]) -> None:
    report = report_of(size, hits)

    rows = report.record("leaderboard").rows
    assert {row.rank for row in rows} == {1}
    assert len({row.mean for row in rows}) == 1
    assert all(best.tied == 7 for best in report.record("best_of_each").groups)
    assert {ranked.rank for ranked in report.record("across_tasks").standings} == {2.0}
    assert report.record("across_tasks").friedman.p == 1.0
    verdict = report.record("verdict")
    assert all("tie at" in standing.sentence for standing in verdict.standings)
    assert "beats" not in verdict.sentence
    assert "ahead of" not in verdict.sentence
    assert report.record("importance").insufficient
    assert all(curve.tuned == max(curve.expected) for curve in report.record("budget").curves)
    for pair in report.record("paired").pairs:
        assert pair.difference == 0.0


def test_the_earliest_of_equal_points_wins_a_search() -> None:
    one, other = (0.1 + 0.2 + 0.3) / 3, (0.3 + 0.2 + 0.1) / 3
    assert one != other
    for values in ([one, other], [other, one], [0.1, one, other], [0.1, other, one]):
        assert earliest_best(values, "max") == len(values) - 2
        assert earliest_best([-value for value in values], "min") == len(values) - 2


@pytest.mark.parametrize("order", list(permutations([0.3, 0.1, 0.2]))[:4])
def test_the_best_rate_of_equals_is_the_lowest(order: tuple[float, ...]) -> None:
    finals = [
        FinalScores(lr=0.1, values=order, diverged=0),
        FinalScores(lr=0.01, values=(0.1, 0.2, 0.3), diverged=0),
    ]
    found = sensitivity("", "sgd", finals, 0.0, "max", np.random.default_rng(0))
    assert found.best == 0.01
    assert [rate.regime for rate in found.rates] == ["good", "good"]
