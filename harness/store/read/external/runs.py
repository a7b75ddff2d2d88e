"""Somebody else's MLflow runs as plain data, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from harness.store.names import TAG_PARENT

LARGEST = 1.79e308
"""MLflow's databases keep an infinite value as the largest number."""


@dataclass(frozen=True, slots=True)
class ExternalRun:
    """A run of an MLflow experiment that another program wrote.

    started: milliseconds since 1970, UTC. metrics: the last value of those that were asked for, NaN
    if it is not finite.
    """

    run_id: str
    name: str
    status: str
    started: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BestStep:
    """The best value of a run's metric, and another metric's at the same step, NaN without one."""

    value: float
    beside: float


def finite_or(value: float, other: float) -> float:
    """Returns the value, or `other` for a value that is infinite in MLflow."""
    return value if isfinite(value) and abs(value) < LARGEST else other


def counted_runs(
    runs: Iterable[ExternalRun], metric: str
) -> tuple[list[ExternalRun], dict[str, int]]:
    """Returns the runs that are trials, and how many others there are, by what they are.

    Where a run has others inside it, the innermost runs with the metric are the trials.
    """
    by_id = {run.run_id: run for run in runs}
    parents = {run.tags.get(TAG_PARENT, "") for run in by_id.values()}
    around = {run.run_id for run in by_id.values() if metric in run.metrics}
    around = {outer.run_id for run_id in around for outer in ancestors(by_id[run_id], by_id)}
    counted, groups, parts = [], 0, 0
    for run in by_id.values():
        has_metric = metric in run.metrics
        if run.run_id in around or (run.run_id in parents and not has_metric):
            groups += 1
        elif not has_metric and any(metric in of.metrics for of in ancestors(run, by_id)):
            parts += 1
        else:
            counted.append(run)
    return counted, {"that other runs lie in": groups, "inside a run that has the metric": parts}


def ancestors(run: ExternalRun, by_id: Mapping[str, ExternalRun]) -> list[ExternalRun]:
    """Returns the runs that a run lies in, the innermost first."""
    found: list[ExternalRun] = []
    parent = by_id.get(run.tags.get(TAG_PARENT, ""))
    while parent is not None and parent is not run and parent not in found:
        found.append(parent)
        parent = by_id.get(parent.tags.get(TAG_PARENT, ""))
    return found


def described(run: ExternalRun, by_id: Mapping[str, ExternalRun]) -> dict[str, str]:
    """Returns a run's params and tags, and those of the runs that it lies in, by name. A param goes
    before a tag, and what is the run's own before what it has from others."""
    texts: dict[str, str] = {}
    for of in reversed(ancestors(run, by_id)):
        own = {key: value for key, value in of.tags.items() if not key.startswith("mlflow.")}
        texts |= own | of.params
    return texts | run.tags | run.params
