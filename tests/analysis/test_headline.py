"""The rule by which one contender beats another: when it makes a claim, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from harness.analysis.configs import Config
from harness.analysis.headline import Headline, headline
from harness.analysis.tournament import DIVERGED, ContenderEntry, Tournament
from harness.core.errors import InputError

SEEDS = np.arange(5) / 100
Scores = Mapping[str, Sequence[float] | np.ndarray]


def tournament_of(*tasks: Scores) -> Tournament:
    """Tasks, each with the scores of its contenders by seed."""
    contenders = tuple(dict.fromkeys(name for task in tasks for name in task))
    names = tuple(f"task {number}" for number in range(len(tasks)))
    entries = {
        (name, contender): ContenderEntry(
            task=name,
            contender=contender,
            config=cast("Config", None),
            values=dict(enumerate(map(float, values))),
            run_ids={},
        )
        for name, task in zip(names, tasks, strict=True)
        for contender, values in task.items()
    }
    return Tournament(
        tasks=names,
        contenders=contenders,
        task_fields=(),
        contend_by=("optimizer",),
        entries=entries,
        metric="test/accuracy",
        sign=1,
    )


def judged(*tasks: Scores, **options: Any) -> Headline:
    return headline(tournament_of(*tasks), np.random.default_rng(0), **options)


def ranked(*order: str) -> Scores:
    """The first surely above the second, and so on; n = 5."""
    return {name: 0.9 - 0.1 * place + SEEDS for place, name in enumerate(order)}


def test_a_winner_on_every_task_beats_the_next() -> None:
    found = judged(*[ranked("adam", "momentum", "sgd")] * 3)

    assert (found.finding, found.doubt, found.undecided) == ("beats", "", ())
    assert found.improvement is not None
    assert (found.improvement.first, found.improvement.second) == ("adam", "momentum")
    assert (found.improvement.won, found.improvement.better) == (3, 1.0)
    assert found.evidence is not None
    # 15 differences of one sign, and Holm over 3 pairs.
    assert found.evidence.floor == 2.0**-14
    assert found.evidence.p == pytest.approx(3 * 2.0**-14)
    assert found.evidence.blocks == 15


def test_seeds_alone_make_no_claim_if_tasks_disagree() -> None:
    """adam wins every seed of four tasks and loses every seed of two: no chance in these seeds, but
    six tasks that split four to two are what a coin gives."""
    up, down = ranked("adam", "sgd"), ranked("sgd", "adam")
    found = judged(up, up, up, up, down, down)

    assert found.finding == "insufficient data"
    assert found.doubt == "test"
    assert found.improvement is not None
    assert found.improvement.better == pytest.approx(4 / 6)
    assert found.improvement.interval.low is not None
    assert found.improvement.interval.low < 0.5
    assert found.evidence is not None
    assert found.evidence.test == "Wilcoxon over tasks"
    assert found.evidence.p == pytest.approx(0.6875)  # ranks tie: a sign test, 2 P(X ≤ 2), n = 6


def test_friedmans_test_comes_first_for_three_contenders() -> None:
    found = judged(ranked("adam", "momentum", "sgd"), ranked("adam", "sgd", "momentum"))

    assert found.doubt == "test"
    assert found.evidence is not None
    assert found.evidence.friedman == pytest.approx(np.exp(-1.5))  # χ² = 3 with 2 degrees
    assert not found.evidence.differ


def test_ranks_decide_if_the_leader_loses_a_task() -> None:
    """adam is first but once; momentum once. Only sgd is far enough behind."""
    often, once = ranked("adam", "momentum", "sgd"), ranked("momentum", "adam", "sgd")
    found = judged(*[often] * 7, once)

    assert found.finding == "beats"
    assert found.improvement is not None
    # sgd is last on all tasks: its seeds decide. Between the first two it is Nemenyi's test.
    assert (found.improvement.second, found.undecided) == ("sgd", ("momentum",))


def test_nemenyis_difference_is_reached_or_not() -> None:
    """a loses one of 12 tasks to b and c. Average ranks: 1.17, 2 and 2.83; four differ by 1.35."""
    found = judged(*[ranked("a", "b", "c", "d")] * 11, ranked("c", "b", "a", "d"))

    assert found.finding == "beats"
    assert found.improvement is not None
    assert (found.improvement.second, found.undecided) == ("c", ("b",))
    assert found.evidence is not None
    assert found.evidence.test == "Nemenyi"
    assert found.evidence.apart == pytest.approx(20 / 12)
    assert found.evidence.needed == pytest.approx(2.569 * np.sqrt(20 / 72), abs=0.001)


@pytest.mark.parametrize(("seeds", "finding"), [(5, "insufficient data"), (6, "beats")])
def test_on_one_task_the_lowest_p_decides(seeds: int, finding: str) -> None:
    """Every seed is won, but five of them allow no p below .062."""
    rising = np.arange(seeds) / 100
    found = judged({"adam": 0.9 + rising, "sgd": 0.5 + rising})
    assert found.finding == finding
    assert found.evidence is not None
    assert found.evidence.p == found.evidence.floor == 2.0 ** (1 - seeds)


def test_the_interval_too_must_lie_above_one_half() -> None:
    """Six tasks of seven are won, each by a hair of chance: ranks differ, P(better) hardly does."""
    chance = np.random.default_rng(3)
    hair = [{"adam": 0.9 + 1e-4 + SEEDS, "sgd": 0.9 + chance.permutation(SEEDS)} for _ in range(7)]
    found = judged(*hair)
    assert found.evidence is not None
    assert found.improvement is not None
    assert found.finding == "insufficient data"


def test_few_seeds_on_one_task_are_few() -> None:
    short = {name: list(values)[:4] for name, values in ranked("adam", "sgd").items()}
    found = judged(ranked("adam", "sgd"), short)
    assert (found.doubt, found.evidence) == ("few seeds", None)


def test_seeds_that_are_not_in_common_count_for_nothing() -> None:
    tournament = tournament_of({"adam": [0.9], "sgd": [0.8]})
    assert headline(tournament, np.random.default_rng(0)).doubt == "no seeds"


def test_a_task_that_one_did_not_finish_is_left_out() -> None:
    found = judged(ranked("adam", "sgd"), {"adam": 0.9 + SEEDS})
    assert (found.tasks, found.left_out) == (1, 1)
    assert judged({"adam": SEEDS}, {"sgd": SEEDS}).doubt == "no task"


def test_a_contender_that_always_diverges_is_beaten() -> None:
    diverged: Scores = {"adam": 0.9 + SEEDS, "sgd": [DIVERGED] * 5}
    found = judged(*[diverged] * 2)
    assert found.finding == "beats"
    assert found.improvement is not None
    assert found.improvement.better == 1.0


def test_contenders_that_tie_everywhere_are_level() -> None:
    found = judged({"adam": [0.9] * 5, "sgd": [0.9] * 5})
    assert (found.finding, found.doubt) == ("insufficient data", "test")
    assert found.evidence is not None
    assert found.evidence.p is None


def test_the_baseline_is_one_of_the_two() -> None:
    tasks = [ranked("adam", "momentum", "sgd")] * 6
    found = judged(*tasks, baseline="sgd")
    assert found.improvement is not None
    assert (found.improvement.first, found.improvement.second) == ("adam", "sgd")
    assert found.evidence is not None
    assert found.evidence.compared == 2  # pairs with the baseline alone
    with pytest.raises(InputError, match="did you mean 'sgd'"):
        judged(*tasks, baseline="sdg")


def test_equal_contenders_are_rarely_separated() -> None:
    """Of random experiments without any difference, at most one in twenty makes a claim."""
    chance = np.random.default_rng(0)
    claims = 0
    for _ in range(80):
        levels = chance.normal(size=(3, 4, 1)) / 10  # what suits a task, which no seed tells
        scores = levels + chance.normal(size=(3, 4, 5)) / 10
        tasks = [dict(zip("abcd", task, strict=True)) for task in scores]
        claims += judged(*tasks).finding == "beats"
    assert claims <= 4
