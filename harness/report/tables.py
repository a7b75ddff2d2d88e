"""A report for other programs: CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from harness.core.text import format_csv
from harness.report.build import Report
from harness.report.rows import Row
from harness.store.names import ABSENT

SCHEMA = "harness.compare/1"
"""Raised with every change that a reader of the JSON must know of; additions leave it."""
COUNTS = ("trials", "diverged", "failed", "interrupted", "running")


def json_text(reports: Iterable[Report]) -> str:
    """`{"schema": …, "experiments": [{"experiment": …, section: record, …}]}`; what is missing is
    null, never NaN."""
    experiments = [
        {"experiment": report.experiment}
        | {part.section.name: asdict(part.record) for part in report.parts}
        for report in reports
    ]
    whole = _finite({"schema": SCHEMA, "experiments": experiments})
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv(reports: Iterable[Report]) -> str:
    """One row a config, full precision, empty where a value is missing. Fields of the config take
    a column each, named as in an experiment file."""
    reports = list(reports)
    rows = [(report, row) for report in reports for row in report.record("leaderboard").rows]
    fields = list(dict.fromkeys(name for _, row in rows for name in row.fields))
    header = ["experiment", "rank", "config_id", "dataset", *fields, "metric", "epoch"]
    header += ["mean", "sd", "n", "test_metric", "test_mean", "test_sd", *COUNTS]
    return format_csv(header, (_cells(report, row, fields) for report, row in rows))


def _cells(report: Report, row: Row, fields: list[str]) -> list[object]:
    score = report.comparison.score
    held = [row.fields.get(name) for name in fields]
    return [
        *(report.experiment, row.rank, row.config_id, row.dataset),
        *(None if value == ABSENT else value for value in held),
        *(score.metric, score.epoch, row.mean, row.sd, row.n),
        *(score.test, row.test_mean, row.test_sd),
        *(getattr(row, name) for name in COUNTS),
    ]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
