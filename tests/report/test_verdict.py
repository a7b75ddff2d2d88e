"""The verdict is one story: who is ahead, and why another leads on the validation split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report.sections.verdict import Verdicts
from tests.report_support import section_record
from tests.stored import results, trial_run

Scores = Sequence[float | None]
FLAT = [0.9] * 6


def runs_of(optimizer: str, val: Scores, test: Scores, **fields: Any) -> list[Any]:
    """One run a seed; None is a trial that diverged."""
    return [
        trial_run(
            v,
            test=t,
            outcome="diverged" if v is None else "done",
            optimizer=optimizer,
            seed=seed,
            **fields,
        )
        for seed, (v, t) in enumerate(zip(val, test, strict=True))
    ]


def verdict_of(*runs: list[Any]) -> Verdicts:
    found = section_record(results(*[run for of in runs for run in of]), "verdict")
    assert isinstance(found, Verdicts)
    return found


def test_nobody_is_ahead_who_wins_fewer_seeds() -> None:
    """One seed lifts adam's mean; sgd wins the five others."""
    adam = [0.5, 0.5, 0.5, 0.5, 0.5, 1.0]
    found = verdict_of(runs_of("adam", FLAT, adam), runs_of("sgd", FLAT, [0.51] * 6))

    assert "ahead of" not in found.sentence
    assert (
        "Neither adam nor sgd is ahead: adam has the better mean on 1 of 1 task" in found.sentence
    )
    assert "P(better) .17" in found.sentence


def test_two_splits_with_two_leaders_are_explained() -> None:
    better, worse = [0.91, 0.92, 0.93, 0.94, 0.95, 0.96], [0.81, 0.82, 0.83, 0.84, 0.85, 0.86]
    found = verdict_of(runs_of("adam", worse, better), runs_of("sgd", better, worse))

    assert found.sentence.startswith("adam beats sgd on 1 of 1 task")
    assert found.standings[0].sentence.startswith("sgd leads with val/accuracy")
    assert found.reason == (
        "sgd leads by val/accuracy, which chose the configs, and adam by test/accuracy, which "
        "chose nothing and therefore decides."
    )


def test_a_leader_that_diverges_less_is_explained() -> None:
    better: Scores = [0.91, 0.92, 0.93, 0.94, 0.95, None]
    worse = [0.81, 0.82, 0.83, 0.84, 0.85, 0.86]

    found = verdict_of(runs_of("adam", better, better), runs_of("sgd", worse, worse))

    assert "adam is ahead of sgd" in found.sentence
    assert found.standings[0].sentence.startswith("sgd leads")
    assert found.reason == (
        "sgd leads, although adam is ahead where both finished, because fewer of its trials "
        "diverged."
    )


def test_a_leader_of_one_data_set_is_named_with_it() -> None:
    better, worse = [0.91, 0.92, 0.93, 0.94, 0.95, 0.96], [0.81, 0.82, 0.83, 0.84, 0.85, 0.86]
    wins = [
        of
        for dataset in ("digits", "wine")
        for of in (
            runs_of("adam", better, better, dataset=dataset),
            runs_of("sgd", worse, worse, dataset=dataset),
        )
    ]
    loses = [
        runs_of("adam", worse, worse, dataset="breast_cancer"),
        runs_of("sgd", better, better, dataset="breast_cancer"),
    ]
    found = verdict_of(*wins, *loses)

    assert "adam is ahead of sgd on 2 of 3 tasks" in found.sentence
    assert found.reason == (
        "sgd leads on breast_cancer because the best config there is its own, and adam is ahead "
        "because it is better over all tasks."
    )


def test_one_leader_needs_no_reason() -> None:
    better, worse = [0.91, 0.92, 0.93, 0.94, 0.95, 0.96], [0.81, 0.82, 0.83, 0.84, 0.85, 0.86]
    found = verdict_of(runs_of("adam", better, better), runs_of("sgd", worse, worse))
    assert (found.differing, found.reason) == ((), "")


hits = st.one_of(st.integers(40, 44), st.integers(0, 50))


@st.composite
def grids(draw: st.DrawFn) -> list[list[Any]]:
    """Two or three optimizers on one or two data sets, with few hits of 50: many ties."""
    seeds = draw(st.integers(1, 7))
    every = []
    for dataset in draw(st.sampled_from((("digits",), ("digits", "wine")))):
        for optimizer in ("adam", "momentum", "sgd")[: draw(st.integers(2, 3))]:
            val, test = [
                [hit / 50 for hit in draw(st.lists(hits, min_size=seeds, max_size=seeds))]
                for _ in range(2)
            ]
            gone = draw(st.sampled_from((0, 0, 0, 1)))
            val_or_none: Scores = [*[None] * gone, *val[gone:]]
            every.append(runs_of(optimizer, val_or_none, test, dataset=dataset))
    return every


@settings(max_examples=25, deadline=None)
@given(grids())
def test_the_verdict_is_one_story(runs: list[list[Any]]) -> None:
    found = verdict_of(*runs)
    said = re.search(r"(\w+) (?:is ahead of|beats) (\w+)", found.sentence)
    if said is None:
        return
    assert found.headline is not None
    assert found.headline.improvement is not None
    assert found.headline.improvement.better > 0.5
    assert "P(better) .50" not in found.sentence
    for standing in found.standings:
        leaders = [leader.name for leader in standing.leaders]
        if leaders and said[1] not in leaders:
            assert leaders[0] in found.reason
            assert said[1] in found.reason


@pytest.mark.parametrize("better", [0.5, 0.46])
def test_half_is_not_ahead(better: float) -> None:
    from harness.analysis.contenders import Improvement
    from harness.analysis.statistics import NO_INTERVAL
    from harness.report.sections.verdict import _found

    assert "ahead of" not in _found(
        Improvement("a", "b", 3, 2, 5, better, NO_INTERVAL), beats=False
    )
