"""Trials without a result, and why."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.records import Outcome
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.numbers import counted
from harness.report.section import Section

MOST = 10
"""Trials that are named in a report for people."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that did not come to its end. reason: one line."""

    run_name: str
    run_id: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failures:
    """In the order they were started."""

    trials: tuple[Failure, ...]


def record(comparison: Comparison) -> Failures | None:
    trials = comparison.trials
    unfinished = trials[trials["outcome"] != Outcome.DONE]
    if unfinished.empty:
        return None
    columns = unfinished[["run_name", "run_id", "outcome", "reason"]]
    return Failures(tuple(Failure(*map(str, row)) for row in columns.itertuples(index=False)))


def blocks(failures: Failures) -> tuple[Block, ...]:
    # Divergence is a result; what failed comes first.
    ordered = sorted(failures.trials, key=lambda trial: trial.outcome == Outcome.DIVERGED)
    rows = tuple((t.run_name, t.outcome, t.reason) for t in ordered[:MOST])
    table = Table((Column("trial"), Column("outcome"), Column("reason")), rows)
    left = len(ordered) - MOST
    return (table, Paragraph(f"{counted(left, 'trial')} more.")) if left > 0 else (table,)


SECTION = Section(
    name="failures", title="Trials without a result", place=50, record=record, blocks=blocks
)
