"""Statistics of counts over N: what floats give is what whole counts give, by enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.configs import Config
from harness.analysis.contenders import Pair, compare_pairs, improvement, rank_contenders
from harness.analysis.headline import headline
from harness.analysis.resolution import DOUBLE, EXACT, SINGLE, differences, resolution_of, resolve
from harness.analysis.statistics import bootstrap, ordered_differences, percentile, signed_rank
from harness.analysis.tournament import ContenderEntry, Tournament
from tests.report_support import section_record
from tests.stored import results, trial_run

SIZES = (7, 10, 49, 97, 360, 1000, 1797, 8192, 10_000, 60_000, 1 << 20)
"""Examples of a split: with a power of two, multiples of 1/N lie on the edges of decimal digits."""
FEWER_HITS = [1, 1, 1, -1, 2, 2, 3]
"""Differences in hits: ranks 2.5 four times, 5.5 twice, and 7."""


def tournament_of_hits(size: int, *tasks: dict[str, Sequence[int]]) -> Tournament:
    """Contenders with so many hits by seed, of `size` examples."""
    entries = {
        (f"task {number}", name): ContenderEntry(
            task=f"task {number}",
            contender=name,
            config=cast("Config", None),
            values={seed: count / size for seed, count in enumerate(hits)},
            run_ids={},
        )
        for number, task in enumerate(tasks)
        for name, hits in task.items()
    }
    return Tournament(
        tasks=tuple(dict.fromkeys(task for task, _ in entries)),
        contenders=tuple(tasks[0]),
        task_fields=(),
        contend_by=("optimizer",),
        entries=entries,
        metric="test/accuracy",
        sign=1,
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pair_of(size: int, a: Sequence[int], b: Sequence[int]) -> Pair:
    (pair,) = compare_pairs(tournament_of_hits(size, {"a": a, "b": b}), rng())
    return pair


def doubled_ranks(counts: Sequence[int]) -> list[int]:
    """Twice the average ranks of the sizes of whole numbers."""
    sizes = [abs(count) for count in counts]
    return [2 * sum(s < size for s in sizes) + sizes.count(size) + 1 for size in sizes]


def enumerated_p(strata: Sequence[Sequence[int]]) -> float | None:
    """Wilcoxon's p over all signs, by whole numbers alone."""
    kept = [[count for count in stratum if count] for stratum in strata]
    ranks = [rank for stratum in kept for rank in doubled_ranks(stratum)]
    positive = [count > 0 for stratum in kept for count in stratum]
    if not ranks:
        return None
    seen = sum(rank for rank, up in zip(ranks, positive, strict=True) if up)
    seen = min(seen, sum(ranks) - seen)
    below = sum(
        sum(rank for rank, up in zip(ranks, signs, strict=True) if up) <= seen
        for signs in product((False, True), repeat=len(ranks))
    )
    return min(1.0, below / 2.0 ** (len(ranks) - 1))


def enumerated_better(a: Sequence[int], b: Sequence[int]) -> Fraction:
    halves = sum(2 * (x > y) + (x == y) for x, y in product(a, b))
    return Fraction(halves, 2 * len(a) * len(b))


@st.composite
def hits(draw: st.DrawFn, contenders: int = 2) -> tuple[int, list[list[int]]]:
    """A split's size, and hits of each contender by seed: few apart, so that many tie."""
    size = draw(st.sampled_from(SIZES))
    seeds = draw(st.integers(2, 8))
    apart = draw(st.sampled_from((1, 3, 10)))
    least = draw(st.integers(0, size - 1))
    count = st.integers(least, min(least + apart, size))
    every = [draw(st.lists(count, min_size=seeds, max_size=seeds)) for _ in range(contenders)]
    return size, every


def fewer(hits: Sequence[int]) -> list[int]:
    return [hit - less for hit, less in zip(hits, FEWER_HITS, strict=True)]


@pytest.mark.parametrize(
    ("size", "most"),
    [
        (100, [96, 95, 94, 93, 93, 96, 91]),
        (360, [344, 344, 330, 337, 327, 356, 340]),
        (1000, [957, 974, 911, 937, 921, 904, 947]),
        (1797, [1655, 1746, 1734, 1728, 1654, 1782, 1687]),
        (8192, [7655, 7746, 7734, 7728, 7654, 7782, 7687]),
        (10_000, [9461, 9366, 9421, 9351, 9472, 9305, 9996]),
    ],
)
def test_equal_differences_of_hits_share_a_rank(size: int, most: list[int]) -> None:
    """Ranked by their last bits, these give 6/128 or less, and a claim."""
    assert pair_of(size, most, fewer(most)).p == 10 / 128


def test_the_report_makes_no_claim_of_last_bits() -> None:
    most = [344, 344, 330, 337, 327, 356, 340]
    runs = [
        trial_run(0.9, test=hit / 360, optimizer=optimizer, seed=seed)
        for optimizer, hits in (("adam", most), ("sgd", fewer(most)))
        for seed, hit in enumerate(hits)
    ]

    (pair,) = section_record(results(*runs), "paired").pairs
    verdict = section_record(results(*runs), "verdict")

    assert pair.p == 10 / 128
    assert verdict.headline.finding == "insufficient data"
    assert "p = .078" in verdict.sentence


@settings(max_examples=150, deadline=None)
@given(hits())
def test_a_pair_is_what_whole_counts_say(drawn: tuple[int, list[list[int]]]) -> None:
    size, (a, b) = drawn
    pair = pair_of(size, a, b)
    apart = [x - y for x, y in zip(a, b, strict=True)]

    assert pair.p == pytest.approx(enumerated_p([apart]), abs=1e-15)
    assert pair.better == float(enumerated_better(a, b))
    signs = [int(np.sign(count)) for count in apart]
    assert (pair.wins, pair.ties, pair.losses) == tuple(signs.count(sign) for sign in (1, 0, -1))
    assert pair.difference == pytest.approx(sum(apart) / len(apart) / size, rel=1e-9, abs=0)
    of_counts = bootstrap(np.array(apart, dtype=float), rng())
    assert pair.interval.method == of_counts.method
    for ours, theirs in ((pair.interval.low, of_counts.low), (pair.interval.high, of_counts.high)):
        assert ours == (None if theirs is None else pytest.approx(theirs / size, rel=1e-6, abs=0))


@settings(max_examples=60, deadline=None)
@given(st.lists(hits(), min_size=1, max_size=3))
def test_p_over_tasks_ranks_within_each(drawn: list[tuple[int, list[list[int]]]]) -> None:
    """Seeds are pooled; a split of its own size for each task."""
    strata = [[x - y for x, y in zip(*pair, strict=True)] for _, pair in drawn]
    if sum(map(len, strata)) > 12:
        return
    tasks = [tournament_of_hits(size, dict(zip("ab", pair, strict=True))) for size, pair in drawn]
    arrays = [ordered_differences(*task.paired_scores("task 0", "a", "b")) for task in tasks]
    assert signed_rank(arrays)[0] == pytest.approx(enumerated_p(strata), abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(hits(contenders=4))
def test_average_ranks_are_those_of_sums(drawn: tuple[int, list[list[int]]]) -> None:
    """Means tie if the hits of all seeds sum to the same, in whatever order they are added."""
    size, every = drawn
    tournament = tournament_of_hits(size, dict(zip("abcd", every, strict=True)))
    found = {r.contender: r.rank for r in rank_contenders(tournament, tournament.tasks, rng())}
    sums = [sum(of) for of in every]
    for name, total in zip("abcd", sums, strict=True):
        higher, equal = sum(s > total for s in sums), sums.count(total)
        assert found[name] == higher + (equal + 1) / 2


@settings(max_examples=60, deadline=None)
@given(st.lists(hits(), min_size=1, max_size=5))
def test_the_mean_over_tasks_is_one_half_only_if_it_is(
    drawn: list[tuple[int, list[list[int]]]],
) -> None:
    sizes, every = zip(*drawn, strict=True)
    tournament = tournament_of_hits(max(sizes), *[dict(zip("ab", of, strict=True)) for of in every])
    found = improvement(tournament, tournament.tasks, "a", "b", rng())
    exact = sum((enumerated_better(*of) for of in every), Fraction(0)) / len(every)

    assert found is not None
    assert found.better == float(exact)
    assert found.won == sum(sum(a) > sum(b) for a, b in every)


@settings(max_examples=40, deadline=None)
@given(st.lists(hits(), min_size=1, max_size=4))
def test_nobody_beats_without_an_interval_above_one_half(
    drawn: list[tuple[int, list[list[int]]]],
) -> None:
    sizes, every = zip(*drawn, strict=True)
    tournament = tournament_of_hits(max(sizes), *[dict(zip("ab", of, strict=True)) for of in every])
    found = headline(tournament, rng())
    if found.finding == "beats":
        assert found.improvement is not None
        assert found.improvement.better > 0.5
        assert (found.improvement.interval.low or 1.0) > 0.5 + 1e-9


few = st.integers(0, 7)


@given(st.sampled_from(SIZES), st.lists(st.tuples(few, few), min_size=1))
def test_differences_are_equal_if_the_counts_are(size: int, pairs: list[tuple[int, int]]) -> None:
    found = differences([a / size for a, _ in pairs], [b / size for _, b in pairs])
    for (a, b), one in zip(pairs, found, strict=True):
        assert np.sign(one) == np.sign(a - b)
        for (c, d), other in zip(pairs, found, strict=True):
            assert (one == other) == (a - b == c - d)


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_counts_in_single_precision_have_a_coarser_resolution(hit: int, apart: int) -> None:
    size = 10_000
    a = np.array([hit / size, (hit + 1) / size, 0.1], np.float32).astype(float)
    b = np.array([(hit + apart) / size, (hit + 1 + apart) / size, 0.3], np.float32).astype(float)
    resolution = resolution_of([*a, *b])
    assert resolution == SINGLE
    first, second, _ = differences(b, a, resolution)
    assert first == second
    nearest, _, _ = differences(b + 1 / size, a, resolution)
    assert nearest > first


def test_whole_numbers_are_exact() -> None:
    values = [1e12, 1e12 + 1, 3.0]
    assert resolution_of(values) == EXACT
    assert list(resolve(values, EXACT)) == values
    assert resolution_of([0.5, np.nan, np.inf, 1e-300]) == DOUBLE


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.sampled_from([1e-300, 1e-14, 1.0, 1e12, 1e300]),
)
def test_ties_have_no_scale(counts: list[int], scale: float) -> None:
    """Values that are equal but for their last bits tie, and no others do."""
    values = np.array(counts) * scale
    shaken = values * (1 + 2.0**-52 * (np.arange(len(counts)) % 3))
    found = resolve(shaken)
    for (a, x), (b, y) in product(zip(counts, found, strict=True), repeat=2):
        assert (x == y) == (a == b)
        assert (x < y) == (a < b)


def test_what_is_not_finite_stays() -> None:
    values = [np.nan, -np.inf, np.inf, 1.0]
    assert str(list(resolve(values))) == str(list(np.array(values)))
    assert list(differences([-np.inf, -np.inf], [1.0, -np.inf], diverged=0.0)) == [-np.inf, 0.0]


def test_samples_that_agree_but_for_rounding_have_no_interval() -> None:
    assert percentile(np.array([0.75, 0.75 + 1e-16, 0.75 - 1e-16])).method == "degenerate"
