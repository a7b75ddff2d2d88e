"""A config as a row of a table, the same in every section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.configs import Config
from harness.experiment.trial import MAIN_COMPONENTS, MAIN_FIELDS
from harness.report.blocks import Column
from harness.report.numbers import MISSING, decimals_for, spread

OWN_COLUMNS = tuple(name for name in MAIN_FIELDS if name != "dataset")
"""Fields with a column each; all others share one, so that a table fits 80 columns."""
ALIKE = 6
"""Digits of the config's id that tell apart configs of the same label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A config over its seeds, as plain values.

    fields: of the config, those that differ among configs. fewer: whether it has fewer seeds than
    another one. divergence: part of its finished trials that diverged.
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
    trials: int
    diverged: int
    divergence: float | None
    failed: int
    interrupted: int
    running: int


def rows_of(configs: Sequence[Config], shown: Sequence[str]) -> tuple[Row, ...]:
    """One row each. shown: the fields to tell, which should tell configs apart; where they do not
    (the data or the harness changed meanwhile), the config's id does."""
    labels = [(config.task, *(config.labels[name] for name in shown)) for config in configs]
    times = Counter(labels)
    most = max((config.n for config in configs), default=0)
    return tuple(
        _row(config, shown, most, unique=times[label] == 1)
        for config, label in zip(configs, labels, strict=True)
    )


def _row(config: Config, shown: Sequence[str], most: int, unique: bool) -> Row:
    fields = {name: config.labels[name] for name in shown}
    if not unique:
        fields["config"] = config.config_id[:ALIKE]
    return Row(
        rank=config.rank,
        config_id=config.config_id,
        task=config.task,
        dataset=config.labels["dataset"],
        fields=fields,
        mean=config.mean,
        sd=config.sd,
        n=config.n,
        fewer=config.n < most,
        test_mean=config.test_mean,
        test_sd=config.test_sd,
        trials=config.trials,
        diverged=config.diverged,
        divergence=config.divergence,
        failed=config.failed,
        interrupted=config.interrupted,
        running=config.running,
    )


class Layout:
    """Which columns the fields of these rows take."""

    def __init__(self, rows: Sequence[Row]) -> None:
        told = dict.fromkeys(name for row in rows for name in row.fields)
        self.own = [name for name in OWN_COLUMNS if name in told]
        self.other = [name for name in told if name not in (*OWN_COLUMNS, "dataset")]

    def columns(self) -> tuple[Column, ...]:
        own = [Column(name, numeric=name == "lr") for name in self.own]
        return (*own, Column("other")) if self.other else tuple(own)

    def cells(self, row: Row) -> tuple[str, ...]:
        """What sets the config apart, one text for each of `columns`."""
        own = [row.fields.get(name, MISSING) for name in self.own]
        if not self.other:
            return tuple(own)
        told = [f"{name}={row.fields[name]}" for name in self.other if name in row.fields]
        return (*own, " ".join(told))


def spread_cells(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Of each row the score and the test split's, "mean ± sd", with the same decimals throughout
    each column."""
    scores, tests = (
        decimals_for(row.mean for row in rows),
        decimals_for(row.test_mean for row in rows),
    )
    return [
        (spread(row.mean, row.sd, scores), spread(row.test_mean, row.test_sd, tests))
        for row in rows
    ]


def seeds_cell(row: Row) -> str:
    """n, marked where other configs have more."""
    return f"{row.n}*" if row.fewer else str(row.n)


PLAIN = (*MAIN_COMPONENTS, "study", "experiment")
"""Fields whose values say what they are of."""


def called(fields: Mapping[str, str]) -> str:
    """A config in a sentence: "lr 0.01, adam, cosine, batch_size 32"."""
    told = {name: fields[name] for name in ("lr", *fields) if name in fields}
    words = (value if name in PLAIN else f"{name} {value}" for name, value in told.items())
    return ", ".join(words)
