"""A config as a row of a table, the same in every section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config
from harness.experiment.trial import MAIN_FIELDS
from harness.report.blocks import Column
from harness.report.formatting import MISSING, decimals_for, spread

OWN_COLUMNS = tuple(name for name in MAIN_FIELDS if name != "dataset")
"""Fields with a column each; all others share one, so that a table fits 80 columns."""
ID_DIGITS = 6
"""Digits of the config's id that tell configs of the same label apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRow:
    """A config over its seeds, as plain values.

    n: how many trials the mean is of. test_n: how many the test split's is of.
    fields: those of the config's fields that differ among configs.
    fewer: whether another config has more seeds.
    divergence: the share of its finished trials that diverged.
    """

    rank: int | None
    config_id: str
    task: str
    dataset: str
    fields: dict[str, str]
    mean: float | None
    sd: float | None
    n: int
    fewer: bool
    test_mean: float | None
    test_sd: float | None
    test_n: int
    trials: int
    diverged: int
    divergence: float | None
    failed: int
    interrupted: int
    running: int


NOT_COPIED = ("dataset", "fields", "fewer")
"""Fields of a row that are not the config's own."""


def config_rows(configs: Sequence[Config], shown: Sequence[str]) -> tuple[ConfigRow, ...]:
    """Returns one row for each config.

    shown: the fields to show. If they do not tell two configs apart, because the data or the code
        changed in between, the config's id is shown too.
    """
    labels = [(config.task, *(config.labels[name] for name in shown)) for config in configs]
    times = Counter(labels)
    most = max((config.n for config in configs), default=0)
    copied = [of.name for of in fields(ConfigRow) if of.name not in NOT_COPIED]
    rows = []
    for config, label in zip(configs, labels, strict=True):
        differing = {name: config.labels[name] for name in shown}
        if times[label] > 1:
            differing["config"] = config.config_id[:ID_DIGITS]
        values = {name: getattr(config, name) for name in copied}
        dataset, fewer = config.labels["dataset"], config.n < most
        rows.append(ConfigRow(dataset=dataset, fields=differing, fewer=fewer, **values))
    return tuple(rows)


def own_columns_of(comparison: Comparison) -> tuple[str, ...]:
    """Returns the fields with a column each: of another program's results, what competes too."""
    by = comparison.external.by if comparison.external else ()
    return tuple(dict.fromkeys((*by, *OWN_COLUMNS)))


def config_columns(
    rows: Sequence[ConfigRow],
    metric: str,
    test: str | None,
    own_columns: Sequence[str] = OWN_COLUMNS,
    marks: Sequence[str] = (),
) -> tuple[list[Column], list[list[str]]]:
    """Returns the columns of the rows' fields, scores and seeds, and each row's cells.

    own_columns: the fields that get a column each. marks: of each row, what stands behind its
        number of seeds.
    """
    names = dict.fromkeys(name for row in rows for name in row.fields)
    own = [name for name in own_columns if name in names]
    other = [name for name in names if name not in (*own_columns, "dataset")]
    columns = [Column(name, numeric=name == "lr") for name in own]
    columns += [Column("other")] if other else []
    columns += [Column(name, numeric=True) for name in (metric, "n", test) if name]
    decimals = decimals_for(row.mean for row in rows)
    test_decimals = decimals_for(row.test_mean for row in rows)
    lines = []
    for row, mark in zip(rows, marks or [""] * len(rows), strict=True):
        cells = [row.fields.get(name, MISSING) for name in own]
        if other:
            others = [f"{name}={row.fields[name]}" for name in other if name in row.fields]
            cells.append(" ".join(others))
        cells.append(spread(row.mean, row.sd, decimals))
        cells.append(f"{row.n}{'*' if row.fewer else ''}{mark}")
        if test:
            own_n = f" (n = {row.test_n})" if 0 < row.test_n != row.n else ""
            cells.append(spread(row.test_mean, row.test_sd, test_decimals) + own_n)
        lines.append(cells)
    return columns, lines
