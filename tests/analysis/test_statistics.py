"""Statistics against SciPy, statsmodels, scikit-posthocs and cases worked by hand."""

from __future__ import annotations

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.analysis.contenders import stratified_iqm
from harness.analysis.cost import pareto
from harness.analysis.statistics import (
    average_ranks,
    bootstrap,
    critical_difference,
    friedman_test,
    groups_within,
    holm,
    interquartile_mean,
    ordered_differences,
    percentile,
    probability_of_improvement,
    signed_rank,
    summarise_values,
)
from harness.core.errors import InputError
from harness.report.sections.budget import DEFAULT_LR, expected_best

VALUES = [0.91, 0.93, 0.95, 0.96, 0.99, 0.90, 0.97]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Summary


def test_a_summary_worked_by_hand() -> None:
    """1, 2, 3, 4, 100: the middle half without the lowest and highest quarter is 2, 3, 4."""
    found = summarise_values([100.0, 1.0, 2.0, 3.0, 4.0], rng())

    assert (found.n, found.mean, found.median, found.iqm) == (5, 22.0, 3.0, 3.0)
    assert found.sd == pytest.approx(np.std([1, 2, 3, 4, 100], ddof=1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-14, 1e-300, 1e12, 1e300])
def test_the_interval_is_scipys_bca_on_whole_numbers(scale: float, seed: int) -> None:
    """On whole numbers equal means are equal floats; the interval has no scale."""
    hundredths = np.rint(100 * np.array(VALUES))
    theirs = stats.bootstrap(
        (hundredths,), np.mean, n_resamples=4000, method="BCa", random_state=rng(seed)
    ).confidence_interval

    ours = bootstrap(hundredths * scale, rng(seed))

    assert ours.method == "BCa"
    assert ours.low == pytest.approx(theirs.low * scale, rel=1e-12, abs=0)
    assert ours.high == pytest.approx(theirs.high * scale, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("values", "method"),
    [([], "insufficient data"), ([0.5, 0.6], "insufficient data"), ([0.5] * 5, "degenerate")],
)
def test_too_few_or_equal_values_have_no_interval(values: list[float], method: str) -> None:
    found = summarise_values(values, rng()).interval
    assert (found.low, found.high, found.method) == (None, None, method)


def test_diverged_values_are_never_averaged() -> None:
    with pytest.raises(ValueError, match="finite"):
        summarise_values([0.5, float("-inf")], rng())


def test_the_same_generator_gives_the_same_interval() -> None:
    assert summarise_values(VALUES, rng(3)) == summarise_values(VALUES, rng(3))


# Pairs


@given(st.lists(st.integers(-40, 40).filter(bool), min_size=1, max_size=11, unique_by=abs))
def test_wilcoxon_without_ties_is_scipys(differences: list[int]) -> None:
    theirs = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank([differences])[0] == pytest.approx(theirs, abs=1e-12)


@given(st.lists(st.integers(-3, 3).filter(bool), min_size=1, max_size=9))
def test_wilcoxon_with_ties_is_the_whole_enumeration(differences: list[int]) -> None:
    ranks = stats.rankdata(np.abs(differences))
    total = ranks.sum()
    seen = abs(ranks[np.array(differences) > 0].sum() - total / 2)
    signs = product((0, 1), repeat=len(ranks))
    as_far = np.mean([abs(np.dot(s, ranks) - total / 2) >= seen - 1e-9 for s in signs])

    assert signed_rank([differences])[0] == pytest.approx(as_far, abs=1e-12)


@pytest.mark.parametrize(("n", "floor"), [(1, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_lowest_p_that_so_many_seeds_can_give(n: int, floor: float) -> None:
    p, lowest = signed_rank([np.arange(1, n + 1)])
    assert p == lowest == floor


def test_wilcoxon_leaves_out_what_does_not_differ() -> None:
    assert signed_rank([[0.0, 0.0]]) == (None, None)
    assert signed_rank([[0.0, 1.0, 2.0, 3.0]]) == signed_rank([[1.0, 2.0, 3.0]])


def test_many_pairs_are_as_good_as_scipys_approximation() -> None:
    data = rng().normal(0.1, 1, 150)
    assert signed_rank([data])[0] == pytest.approx(
        stats.wilcoxon(data, method="approx").pvalue, abs=2e-3
    )


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]), abs=1e-12)


def test_probability_of_improvement_is_mann_whitneys_u() -> None:
    a, b = rng().normal(0.3, 1, 7).round(1), rng(1).normal(0, 1, 5).round(1)
    assert probability_of_improvement(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b).statistic / 35
    )


def test_divergence_is_worse_than_any_value() -> None:
    worst = -np.inf
    assert probability_of_improvement([0.1, worst], [worst, worst]) == 0.75  # wins 2, ties 2 of 4
    found = ordered_differences(np.array([0.1, worst, worst]), np.array([worst, 0.1, worst]))
    assert list(found) == [np.inf, -np.inf, 0.0]
    assert signed_rank([[np.inf, 1.0, 2.0]])[0] == 0.25


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=6),
    st.lists(st.integers(-5, 5), min_size=1, max_size=6),
)
def test_superiority_is_antisymmetric_and_knows_no_scale(a: list[int], b: list[int]) -> None:
    forth, back = probability_of_improvement(a, b), probability_of_improvement(b, a)
    assert forth + back == pytest.approx(1.0)
    assert probability_of_improvement(np.exp(a), np.exp(b)) == pytest.approx(forth)


# Across tasks

# Demšar (2006), table 6: AUC of C4.5 and three variants on 14 data sets; his average ranks are
# 3.143, 2.000, 2.893, 1.964, Friedman's chi-square 9.28, and the critical difference 1.25.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_ranks_and_critical_difference_of_demsar() -> None:
    assert average_ranks(DEMSAR) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=5e-3)


@pytest.mark.parametrize(
    ("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_critical_values_are_those_of_the_table(k: int, q: float) -> None:
    """Demšar (2006), table 5a."""
    n = 10
    assert critical_difference(k, n) / np.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(q, abs=1e-3)


def test_friedman_is_scipys_and_its_groups_are_scikit_posthocs() -> None:
    found = friedman_test(DEMSAR, NAMES)
    assert found is not None

    theirs = stats.friedmanchisquare(*np.round(DEMSAR, 12).T)
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(DEMSAR)
    together = {frozenset(pair) for group in found.groups for pair in combinations(group, 2)}

    assert found.statistic == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    for i, j in combinations(range(4), 2):
        assert (frozenset((NAMES[i], NAMES[j])) in together) == (nemenyi.iloc[i, j] > 0.05)


def test_groups_are_the_largest_runs() -> None:
    assert groups_within("abcd", [1.0, 1.5, 2.4, 4.0], 1.0) == (("a", "b"), ("b", "c"))
    assert groups_within("abcd", [1.0, 1.5, 2.0, 4.0], 1.0) == (("a", "b", "c"),)
    assert groups_within("ab", [1.0, 3.0], 1.0) == ()


def test_friedman_needs_three_contenders_and_two_tasks() -> None:
    assert friedman_test(DEMSAR[:, :2], NAMES[:2]) is None
    assert friedman_test(DEMSAR[:1], NAMES) is None


def test_contenders_that_all_tie_do_not_differ() -> None:
    found = friedman_test(np.ones((4, 3)), "abc")
    assert found is not None
    assert (found.statistic, found.p, found.groups) == (0.0, 1.0, (("a", "b", "c"),))


def test_ragged_scores_raise() -> None:
    with pytest.raises(InputError, match="missing"):
        average_ranks([[0.5, np.nan], [0.5, 0.6]])


@given(st.permutations(range(4)), st.floats(0.1, 10), st.floats(-3, 3))
def test_ranks_follow_order_and_know_no_scale(order: list[int], scale: float, shift: float) -> None:
    ranks = average_ranks(np.round(DEMSAR, 4))
    assert average_ranks(DEMSAR[:, order]) == pytest.approx(ranks[list(order)])
    assert average_ranks(DEMSAR[::-1]) == pytest.approx(ranks)
    assert average_ranks(np.round(DEMSAR * scale + shift, 9)) == pytest.approx(ranks)


def test_the_stratified_mean_draws_within_each_task() -> None:
    """Two tasks, each without spread: every draw within a task gives the same mean; draws over all
    would not."""
    value, interval = stratified_iqm([np.full(4, 0.2), np.full(4, 0.8)], rng())

    assert value == pytest.approx(0.5)
    assert interval.method == "degenerate"


def test_the_stratified_interval_is_a_loops() -> None:
    strata = [rng(1).normal(0.5, 0.1, 6), rng(2).normal(0.7, 0.05, 5)]
    value, interval = stratified_iqm(strata, rng(3))
    loop = rng(4)
    samples = [
        interquartile_mean(
            np.concatenate([loop.choice(stratum, stratum.size) for stratum in strata])
        )
        for _ in range(2000)
    ]
    theirs = percentile(np.array(samples))

    assert value == pytest.approx(interquartile_mean(np.concatenate(strata)))
    assert interval.low == pytest.approx(theirs.low, abs=0.01)
    assert interval.high == pytest.approx(theirs.high, abs=0.01)


def test_too_much_divergence_leaves_no_mean() -> None:
    few = [np.array([-np.inf, 0.5, 0.6, 0.7, 0.8])]
    many = [np.array([-np.inf, -np.inf, -np.inf, 0.7, 0.8])]

    assert stratified_iqm(few, rng())[0] == pytest.approx(0.6)
    assert stratified_iqm(many, rng())[0] is None


# Budget


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7))
def test_the_expected_best_is_that_of_all_subsets(values: list[float]) -> None:
    found = expected_best(values)
    for k in range(1, len(values) + 1):
        every = np.mean([max(some) for some in combinations(values, k)])
        assert found[k - 1] == pytest.approx(every, abs=1e-9)


def test_the_expected_best_of_a_loss_is_the_lowest() -> None:
    assert expected_best([3.0, 1.0, 2.0], "min") == pytest.approx([2.0, 4 / 3, 1.0])


def test_the_expected_best_of_many_configs_stays_exact() -> None:
    values = np.arange(1.0, 301.0)
    found = expected_best(values.tolist())
    k = 100
    exact = sum(
        comb(i - 1, k - 1) * value for i, value in enumerate(values.tolist(), 1) if i >= k
    ) / comb(300, k)
    assert found[k - 1] == pytest.approx(exact, rel=1e-9)
    assert found[0] == pytest.approx(values.mean())


def test_default_rates_are_torchs() -> None:
    import inspect

    import torch

    classes = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
    }
    for name, optimizer in classes.items():
        assert inspect.signature(optimizer).parameters["lr"].default == DEFAULT_LR[name]
    assert DEFAULT_LR["momentum"] == DEFAULT_LR["nesterov"] == DEFAULT_LR["sgd"]


# Cost


def test_the_pareto_front_by_hand() -> None:
    costs, scores = [1, 2, 3, 2, 1, 4], [0.5, 0.7, 0.7, 0.6, 0.5, 0.9]
    assert pareto(costs, scores) == [True, True, False, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    front = pareto([c for c, _ in points], [s for _, s in points])
    for (cost, score), kept in zip(points, front, strict=True):
        dominated = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert kept == (not dominated)
