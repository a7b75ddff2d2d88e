"""Performance profiles and the AlgoPerf score: by hand, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.performance_profile import (
    algoperf_scores,
    profiles,
    ratios,
    score_of,
)
from harness.core.errors import InputError

MISS = float("inf")


def table(rows: dict[str, list[float]], tasks: list[str] | None = None) -> pd.DataFrame:
    width = len(next(iter(rows.values())))
    seconds = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    seconds.columns = pd.Index(tasks or [f"task {i}" for i in range(width)], name="task")
    seconds.index.name = "contender"
    return seconds


def test_a_profile_by_hand() -> None:
    """a is fastest on two of three tasks and 1.5 times as slow on the third; b is fastest there,
    twice as slow on the first, and misses the second."""
    a, b = profiles(table({"a": [10, 5, 30], "b": [20, MISS, 20]}))

    assert (a.ratios, a.shares) == ((1.0, 1.5), (pytest.approx(2 / 3), 1.0))
    assert (b.ratios, b.shares) == ((1.0, 2.0), (pytest.approx(1 / 3), pytest.approx(2 / 3)))


def test_a_score_by_hand() -> None:
    """∫₁⁴ ρ / 3: for a (.5 · 2/3 + 2.5 · 1) / 3 = 17/18; for b (1 · 1/3 + 2 · 2/3) / 3 = 5/9."""
    a, b = algoperf_scores(table({"a": [10, 5, 30], "b": [20, MISS, 20]}))

    assert (a.contender, a.score) == ("a", pytest.approx(17 / 18))
    assert (b.contender, b.score, b.missed) == ("b", pytest.approx(5 / 9), 1)


def test_leaving_one_task_out_by_hand() -> None:
    """Without the third task a is fastest everywhere (1), without the first or second it has
    (3 + 2.5) / 6; it leads in two of three: b, (2 + 3) / 6, loses where its miss stays."""
    a, b = algoperf_scores(table({"a": [10, 5, 30], "b": [20, MISS, 20]}))

    assert (a.lowest, a.highest) == (pytest.approx(5.5 / 6), 1.0)
    assert (b.lowest, b.highest) == (pytest.approx(2 / 6), pytest.approx(5 / 6))
    assert (a.lead, b.lead) == (3, 0)


@pytest.mark.parametrize(
    ("times", "score"),
    [([1, 4], 0.0), ([1, 5], 0.0), ([1, 2.5], 0.5), ([1, 1], 1.0), ([1, MISS], 0.0)],
)
def test_score_of_one_ratio(times: list[float], score: float) -> None:
    found = {
        s.contender: s.score for s in algoperf_scores(table({"a": [times[0]], "b": [times[1]]}))
    }
    assert found == {"a": 1.0, "b": pytest.approx(score)}


def test_the_integral_is_the_profiles() -> None:
    seconds = table({"a": [10, 5, 30, 7], "b": [20, MISS, 20, 9], "c": [11, 19, 66, 8]})
    grid = np.linspace(1, 4, 300_001)
    for profile in profiles(seconds):
        steps = np.searchsorted(profile.ratios, grid, side="right") - 1
        area = np.asarray(profile.shares)[steps].mean()
        (found,) = (s.score for s in algoperf_scores(seconds) if s.contender == profile.contender)
        assert found == pytest.approx(area, abs=1e-4)


def test_a_task_that_all_miss_counts_for_nobody() -> None:
    a, b = algoperf_scores(table({"a": [1, MISS], "b": [2, MISS]}))
    assert (a.score, b.score) == (0.5, pytest.approx(1 / 3))


def test_one_task_has_no_leave_one_out() -> None:
    assert {(s.lowest, s.highest) for s in algoperf_scores(table({"a": [1], "b": [2]}))} == {
        (None, None)
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (table({"a": [1, 2], "b": [3, 4]}).T, "swapped"),
        (table({"a": [1, 2], "b": [3, 4]}).rename_axis(index=None), "named"),
        (table({"a": [1, 2], "b": [3, np.nan]}), "ragged"),
        (table({"a": [1, 2], "b": [3, 0]}), "above 0"),
        (table({"a": [1, 2], "b": [3, -1]}), "above 0"),
        (table({"a": [1, 2], "b": [3, 4]}, tasks=["t", "t"]), "twice"),
        (table({"a": [1, 2]}).iloc[:0], "no times"),
        (table({"a": [1, 2]}).astype(object).map(lambda v: [v, v]), "ragged"),
    ],
    ids=["swapped", "unnamed", "ragged", "zero", "negative", "twice", "empty", "nested"],
)
def test_invalid_tables_of_times_raise(bad: pd.DataFrame, message: str) -> None:
    for compute in (ratios, profiles, algoperf_scores):
        with pytest.raises(InputError, match=message):
            compute(bad)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        ratios(table({"a": [1, np.nan], "b": [3, 0]}))
    assert len(caught.value.problems) == 2


times = st.lists(
    st.lists(st.one_of(st.just(MISS), st.floats(0.1, 100)), min_size=3, max_size=3),
    min_size=2,
    max_size=5,
)


def named(rows: list[list[float]]) -> pd.DataFrame:
    return table({f"c{i}": row for i, row in enumerate(rows)})


def by_name(seconds: pd.DataFrame) -> dict[str, float]:
    return {score.contender: score.score for score in algoperf_scores(seconds)}


@settings(max_examples=30, deadline=None)
@given(times, st.randoms())
def test_order_changes_nothing(rows: list[list[float]], chance: object) -> None:
    seconds = named(rows)
    shuffled = seconds.sample(frac=1, random_state=1, axis=0).sample(frac=1, random_state=2, axis=1)
    assert by_name(shuffled) == pytest.approx(by_name(seconds))


@settings(max_examples=30, deadline=None)
@given(times, st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
def test_the_unit_of_each_task_changes_nothing(
    rows: list[list[float]], factors: list[float]
) -> None:
    seconds = named(rows)
    assert by_name(seconds * factors) == pytest.approx(by_name(seconds), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(times)
def test_scores_lie_between_0_and_1_and_a_miss_never_helps(rows: list[list[float]]) -> None:
    seconds = named(rows)
    whole = by_name(seconds)
    assert all(0 <= score <= 1 for score in whole.values())
    worse = seconds.copy()
    worse.iloc[0, 0] = MISS
    assert by_name(worse)["c0"] <= whole["c0"] + 1e-12


@settings(max_examples=30, deadline=None)
@given(times)
def test_contenders_that_tie_share_their_score(rows: list[list[float]]) -> None:
    seconds = named([*rows, rows[0]])
    assert by_name(seconds)["c0"] == by_name(seconds)[f"c{len(rows)}"]
    shares = {p.contender: p.shares for p in profiles(seconds)}
    assert shares["c0"] == shares[f"c{len(rows)}"]


@settings(max_examples=30, deadline=None)
@given(times)
def test_profiles_only_rise_and_end_at_what_was_reached(rows: list[list[float]]) -> None:
    seconds = named(rows)
    for profile, row in zip(profiles(seconds), seconds.to_numpy(), strict=True):
        assert list(profile.shares) == sorted(profile.shares)
        assert profile.shares[-1] == pytest.approx(np.isfinite(row).mean())


def test_score_of_an_empty_hit_list_is_zero() -> None:
    assert list(score_of(np.array([[MISS, MISS]]))) == [0.0]


@given(st.permutations([1.1, 1.3, 1.7, 2.9, 3.3]))
def test_equal_profiles_share_the_score_and_the_lead(ratios: list[float]) -> None:
    """Each is fastest on five of ten tasks, and as slow as the other elsewhere."""
    ones = [1.0] * 5
    a, b = algoperf_scores(table({"a": [*ratios, *ones], "b": [*ones, *sorted(ratios)]}))
    assert a.score == b.score
    assert a.lead == b.lead
