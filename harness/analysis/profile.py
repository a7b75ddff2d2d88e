"""Time to a target over tasks: performance profiles, and AlgoPerf's score of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.errors import InputError, Problem

CONTENDER = "contender"
TASK = "task"
LONGEST = 4.0
"""Ratio to the fastest up to which AlgoPerf's score counts (Dahl et al., 2023)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A contender's step function ρ(τ): the part of tasks on which it takes at most τ times as
    long as the fastest. ratios: where it steps, ascending, from 1; shares: ρ from there on."""

    contender: str
    ratios: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """AlgoPerf's: ∫ ρ from 1 to `LONGEST`, over LONGEST − 1; 1 is the fastest everywhere.

    lowest, highest: of the scores with one task left out; None with one task. lead: in how many of
    these leave-one-outs it is (or shares) the best.
    """

    contender: str
    score: float
    missed: int
    lowest: float | None
    highest: float | None
    lead: int


def ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Each time over the task's shortest (Dolan and Moré, 2002); infinite for a miss, and on a
    task that all missed.

    times: above 0, infinite for a miss; its index named "contender" and its columns "task", so
    that swapped axes cannot be computed. Raises InputError for anything else.
    """
    _check(times)
    values = times.to_numpy(dtype=float)
    fastest = values.min(axis=0)
    with np.errstate(invalid="ignore"):
        found = values / fastest
    found[:, np.isinf(fastest)] = np.inf
    return pd.DataFrame(found, index=times.index, columns=times.columns)


def profiles(times: pd.DataFrame) -> tuple[Profile, ...]:
    """One profile for each contender, in the table's order."""
    table = ratios(times)
    made = []
    for name, row in zip(table.index, table.to_numpy(), strict=True):
        steps = sorted({1.0, *row[np.isfinite(row)]})
        shares = tuple(float(np.mean(row <= step)) for step in steps)
        made.append(Profile(str(name), tuple(float(step) for step in steps), shares))
    return tuple(made)


def scores(times: pd.DataFrame) -> tuple[Score, ...]:
    """One score for each contender, the highest first; ties in the table's order."""
    table = ratios(times)
    whole = score_of(table.to_numpy())
    left = []
    if len(table.columns) > 1:
        # Ratios are of one task alone, so that leaving one out leaves the others.
        left = [
            score_of(np.delete(table.to_numpy(), place, axis=1))
            for place in range(len(table.columns))
        ]
    made = [
        Score(
            contender=str(name),
            score=float(whole[place]),
            missed=int(np.isinf(times.to_numpy(dtype=float)[place]).sum()),
            lowest=min((float(out[place]) for out in left), default=None),
            highest=max((float(out[place]) for out in left), default=None),
            lead=sum(bool(out[place] >= out.max() and out[place] > 0) for out in left),
        )
        for place, name in enumerate(table.index)
    ]
    return tuple(sorted(made, key=lambda score: -score.score))


def score_of(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [contender] of ratios [contender, task]. A task of ratio r adds the length of [r, 4],
    so the integral is exact."""
    return np.asarray(np.clip(LONGEST - table, 0, None).mean(axis=1) / (LONGEST - 1))


def _check(times: pd.DataFrame) -> None:
    problems = []
    names = (times.index.name, times.columns.name)
    if names == (TASK, CONTENDER):
        problems.append("axes are swapped: rows must be contenders, columns tasks")
    elif names != (CONTENDER, TASK):
        problems.append(f"axes must be named {CONTENDER!r} and {TASK!r}, not {names}")
    if times.empty:
        problems.append("no times")
    if times.index.has_duplicates or times.columns.has_duplicates:
        problems.append("a contender or a task stands twice")
    try:
        values = times.to_numpy(dtype=float)
    except (TypeError, ValueError):
        problems.append("ragged: each contender needs one number for each task")
    else:
        if np.isnan(values).any():
            problems.append("ragged: a time is missing (a target that was missed is infinite)")
        if (values <= 0).any():
            problems.append("times must be above 0")
    if problems:
        raise InputError([Problem(problem, where="time to target") for problem in problems])
