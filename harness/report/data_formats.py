"""A report for other programs: CSV and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from pydantic_core import to_jsonable_python

from harness.core.text import format_csv
from harness.report.section import Report
from harness.store.names import ABSENT

SCHEMA = "harness.compare/1"
"""The version rises with every change that a reader of the JSON must know about; additions do not
change it."""
COUNTS = ("trials", "diverged", "failed", "interrupted", "running")


def json_for_stdout(reports: Sequence[Report]) -> str:
    """Returns JSON for standard output, without the characters that its encoding lacks."""
    text = json_text(reports)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json_text(reports, escape=True)
    return text


def json_text(reports: Iterable[Report], escape: bool = False) -> str:
    """Returns `{"schema": …, "experiments": [{"experiment": …, section: record, …}]}`. A missing
    value is null, never NaN. escape: write ASCII alone."""
    experiments = [
        {"experiment": report.experiment}
        | {section.name: record for section, record in report.parts}
        for report in reports
    ]
    whole = {"schema": SCHEMA, "experiments": experiments}
    plain = to_jsonable_python(whole, inf_nan_mode="null")
    return json.dumps(plain, indent=2, ensure_ascii=escape, allow_nan=False) + "\n"


def csv(reports: Iterable[Report]) -> str:
    """Returns one row for each config, in full precision, with an empty cell for a missing value.
    Each field that differs has a column, named as in an experiment file."""
    rows = [(report, row) for report in reports for row in report.record("leaderboard").rows]
    fields = list(dict.fromkeys(name for _, row in rows for name in row.fields))
    header = ["experiment", "rank", "config_id", "dataset", *fields, "metric", "epoch"]
    header += ["mean", "sd", "n", "test_metric", "test_mean", "test_sd", "test_n"]
    header += COUNTS
    lines = []
    for report, row in rows:
        score = report.comparison.score
        lines.append(
            [
                *(report.experiment, row.rank, row.config_id, _cell(row.dataset)),
                *(_cell(row.fields.get(name)) for name in fields),
                *(score.metric, score.epoch, row.mean, row.sd, row.n),
                *(score.test, row.test_mean, row.test_sd, row.test_n),
                *(getattr(row, name) for name in COUNTS),
            ]
        )
    return format_csv(header, lines)


def _cell(label: str | None) -> str | None:
    return None if label == ABSENT else label
