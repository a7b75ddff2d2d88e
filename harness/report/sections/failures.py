"""Trials without a result, and why."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.core.records import Outcome
from harness.core.text import plural
from harness.report.blocks import Block, Folded, Paragraph, ReportTable, columns
from harness.report.section import Section

MOST = 10
"""Most trials that a report for people names."""
TRACEBACK = "traceback.txt"


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that was not completed. reason: one line. traceback: of the first trials that failed;
    empty if it cannot be read."""

    run_name: str
    run_id: str
    outcome: str
    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """In the order in which the trials were started."""

    trials: tuple[Failure, ...]


def record(comparison: Comparison) -> Failures | None:
    trials, details = comparison.trials, comparison.details
    unfinished = trials[trials["outcome"] != Outcome.DONE]
    if unfinished.empty:
        return None
    failed = unfinished.loc[unfinished["outcome"] == Outcome.FAILED, "run_id"][:MOST]
    tracebacks = {run: details.text(run, TRACEBACK) or "" for run in failed} if details else {}
    columns = unfinished[["run_name", "run_id", "outcome", "reason"]]
    return Failures(
        tuple(
            Failure(str(name), str(run), str(outcome), str(reason), tracebacks.get(run, ""))
            for name, run, outcome, reason in columns.itertuples(index=False)
        )
    )


def blocks(failures: Failures) -> tuple[Block, ...]:
    # Divergence is a result, so other failures come first.
    ordered = sorted(failures.trials, key=lambda trial: trial.outcome == Outcome.DIVERGED)
    rows = tuple((t.run_name, t.outcome, t.reason) for t in ordered[:MOST])
    table = ReportTable(columns("trial", "outcome", "reason"), rows)
    more = len(ordered) - MOST
    return (table, Paragraph(f"{plural(more, 'trial')} more.")) if more > 0 else (table,)


def folded(failures: Failures) -> tuple[Folded, ...]:
    return tuple(
        Folded(f"{trial.run_name}: {trial.reason}", trial.traceback)
        for trial in failures.trials
        if trial.traceback
    )


SECTION = Section(
    "failures", "Trials without a result", record, blocks, folded=folded, order=120, brief=True
)
