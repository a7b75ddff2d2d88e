"""Time to a target over tasks: performance profiles, and the AlgoPerf score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.resolution import resolve
from harness.core.errors import InputError, Problem

CONTENDER = "contender"
TASK = "task"
LONGEST = 4.0
"""Largest ratio to the fastest that the AlgoPerf score counts (Dahl et al., 2023)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A contender's performance profile, a step function ρ(τ): the share of tasks on which it takes
    at most τ times as long as the fastest contender.

    ratios: the ratios τ at which it steps, ascending, from 1. shares: ρ from each step on.
    """

    contender: str
    ratios: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AlgoPerfScore:
    """The integral of ρ from 1 to `LONGEST`, over LONGEST − 1; 1 for the fastest on every task.

    missed: on how many tasks the target was missed.
    lowest, highest: of the scores with one task left out; None for a single task.
    lead: with how many tasks left out, one at a time, it has the best score or shares it.
    """

    contender: str
    score: float
    missed: int
    lowest: float | None
    highest: float | None
    lead: int


def ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Returns each time over the shortest of its task (Dolan and Moré, 2002). The ratio is infinite
    for a miss, and on a task that all contenders missed.

    times: [contender, task], above 0, infinite for a miss. Its index must be named "contender" and
        its columns "task", so that swapped axes are noticed.

    Raises InputError for any other table.
    """
    _check(times)
    values = times.to_numpy(dtype=float)
    fastest = values.min(axis=0)
    with np.errstate(invalid="ignore"):
        table = resolve(values / fastest)
    table[:, np.isinf(fastest)] = np.inf
    return pd.DataFrame(table, index=times.index, columns=times.columns)


def profiles(times: pd.DataFrame) -> tuple[Profile, ...]:
    """Returns one profile for each contender, in the table's order."""
    table = ratios(times)
    result = []
    for name, row in zip(table.index, table.to_numpy(), strict=True):
        steps = sorted({1.0, *row[np.isfinite(row)]})
        shares = tuple(float(np.mean(row <= step)) for step in steps)
        result.append(Profile(str(name), tuple(float(step) for step in steps), shares))
    return tuple(result)


def algoperf_scores(times: pd.DataFrame) -> tuple[AlgoPerfScore, ...]:
    """Returns one score for each contender, the highest first; ties in the table's order."""
    table = ratios(times).to_numpy()
    score = score_of(table)
    missed = np.isinf(times.to_numpy(dtype=float)).sum(axis=1)
    # A ratio depends on its own task alone, so a task can be left out by deleting its column.
    tasks = range(table.shape[1]) if table.shape[1] > 1 else ()
    left_out = [score_of(np.delete(table, task, axis=1)) for task in tasks]
    scores = [
        AlgoPerfScore(
            contender=str(name),
            score=float(score[i]),
            missed=int(missed[i]),
            lowest=min((float(without[i]) for without in left_out), default=None),
            highest=max((float(without[i]) for without in left_out), default=None),
            lead=sum(bool(without[i] >= without.max() and without[i] > 0) for without in left_out),
        )
        for i, name in enumerate(times.index)
    ]
    return tuple(sorted(scores, key=lambda score: -score.score))


def score_of(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the scores [contender] of ratios [contender, task]. A task of ratio r adds the length
    of [r, 4], so that the integral is exact."""
    return resolve(np.clip(LONGEST - table, 0, None).mean(axis=1) / (LONGEST - 1))


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
