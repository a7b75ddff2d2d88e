"""Configs over their seeds: how many, how good on average, how spread, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.analysis.score import Score
from harness.core.records import Outcome
from harness.store.names import PARAM_CONFIG

COUNTS = ("done", "diverged", "failed", "interrupted", "running")
"""Every outcome that a trial may have."""
SIGNIFICANT = 12
"""Digits in which two means must agree to be a tie: the order of a sum is not a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config over its seeds. Trials that failed or are not finished have no value: what is
    missing stays missing.

    task: what it was trained on; scores are compared within a task alone.
    labels: the text of each trial field (see `labels`).
    n, mean, sd: of the score over trials that are done; sd with n − 1, None below two.
    test_mean, test_sd: of `Score.test`. trials: all of its trials, then by outcome.
    rank: its place within the task, from 1; equals share one; None where nothing finished.
    """

    config_id: str
    task: str
    labels: Mapping[str, str]
    n: int
    mean: float | None
    sd: float | None
    test_mean: float | None
    test_sd: float | None
    trials: int
    done: int
    diverged: int
    failed: int
    interrupted: int
    running: int
    rank: int | None = None

    @property
    def divergence(self) -> float | None:
        """The part of its finished trials that diverged; None where none finished."""
        finished = self.done + self.diverged
        return self.diverged / finished if finished else None


def summarise(
    trials: pd.DataFrame, score: Score, labels: pd.DataFrame, tasks: Mapping[str, str]
) -> list[Config]:
    """One config for each `config_id`, in the order of the trials, unranked.

    labels: of `labels.label_configs`. tasks: by config id.
    """
    done = trials["outcome"] == Outcome.DONE
    table = pd.DataFrame(
        {
            PARAM_CONFIG: trials[PARAM_CONFIG],
            "score": _scalar(trials, score.column).where(done),
            "test": _scalar(trials, score.test_column).where(done),
            **{outcome: trials["outcome"] == outcome for outcome in COUNTS},
        }
    )
    groups = table.groupby(PARAM_CONFIG, sort=False)
    columns = {
        "trials": groups.size(),
        "n": groups["score"].count(),
        "mean": groups["score"].mean(),
        "sd": groups["score"].std(ddof=1),
        "test_mean": groups["test"].mean(),
        "test_sd": groups["test"].std(ddof=1),
        **{outcome: groups[outcome].sum() for outcome in COUNTS},
    }
    texts = dict(zip(labels.index, labels.to_dict("records"), strict=True))
    return [
        Config(config_id=config_id, task=tasks[config_id], labels=texts[config_id], **values)
        for config_id, values in _records(pd.DataFrame(columns))
    ]


def rank(configs: Iterable[Config], direction: Literal["max", "min"]) -> tuple[Config, ...]:
    """The configs in order, with their ranks.

    Within a task the lower part of diverged trials goes first, since a trial that diverged is
    worse than any value; then the better mean. A config of which nothing finished comes last.
    """
    sign = -1 if direction == "max" else 1

    def key(config: Config) -> tuple[bool, float, float]:
        mean = np.inf if config.mean is None else sign * float(f"{config.mean:.{SIGNIFICANT}g}")
        return config.n + config.diverged == 0, config.divergence or 0.0, mean

    configs = list(configs)
    tasks = {task: place for place, task in enumerate(dict.fromkeys(c.task for c in configs))}
    ranked: list[Config] = []
    in_order = sorted(configs, key=lambda config: (tasks[config.task], *key(config)))
    for _, of_task in groupby(in_order, key=lambda config: config.task):
        place = 1
        for (nothing, *_), equals in groupby(of_task, key=key):
            same = list(equals)
            ranked += [replace(config, rank=None if nothing else place) for config in same]
            place += len(same)
    return tuple(ranked)


def _scalar(trials: pd.DataFrame, column: str | None) -> pd.Series[float]:
    if column is None or column not in trials.columns:
        return pd.Series(np.nan, index=trials.index, dtype=float)
    return trials[column].astype(float)


def _records(table: pd.DataFrame) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each row as plain values, None for NaN."""
    for config_id, row in zip(table.index, table.to_dict("records"), strict=True):
        yield (
            str(config_id),
            {
                str(name): None
                if np.isnan(value)
                else (float(value) if isinstance(value, float) else int(value))
                for name, value in row.items()
            },
        )
