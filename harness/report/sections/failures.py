"""Trials without a result, and why."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.core.records import Outcome
from harness.core.text import plural
from harness.report.blocks import Block, Column, Folded, Paragraph, Table
from harness.report.section import Section

MOST = 10
"""Trials that are named in a report for people."""
TRACEBACK = "traceback.txt"


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that did not come to its end. reason: one line. traceback: of the first that failed;
    empty where it cannot be had."""

    run_name: str
    run_id: str
    outcome: str
    reason: str
    traceback: str = ""


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
    failed = set(unfinished.loc[unfinished["outcome"] == Outcome.FAILED, "run_id"][:MOST])
    archive = comparison.details
    tracebacks = {run: archive.text(run, TRACEBACK) or "" for run in failed} if archive else {}
    return Failures(
        tuple(
            Failure(str(name), str(run), str(outcome), str(reason), tracebacks.get(run, ""))
            for name, run, outcome, reason in columns.itertuples(index=False)
        )
    )


def blocks(failures: Failures) -> tuple[Block, ...]:
    # Divergence is a result; what failed comes first.
    ordered = sorted(failures.trials, key=lambda trial: trial.outcome == Outcome.DIVERGED)
    rows = tuple((t.run_name, t.outcome, t.reason) for t in ordered[:MOST])
    table = Table((Column("trial"), Column("outcome"), Column("reason")), rows)
    left = len(ordered) - MOST
    return (table, Paragraph(f"{plural(left, 'trial')} more.")) if left > 0 else (table,)


def folded(failures: Failures) -> tuple[Folded, ...]:
    return tuple(
        Folded(f"{trial.run_name}: {trial.reason}", trial.traceback)
        for trial in failures.trials
        if trial.traceback
    )


SECTION = Section(
    name="failures",
    title="Trials without a result",
    place=120,
    record=record,
    blocks=blocks,
    folded=folded,
    brief=True,
)
