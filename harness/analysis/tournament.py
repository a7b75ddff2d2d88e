"""Who competes on what: each contender's best config on each task, with its scores by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config
from harness.core.records import Outcome
from harness.experiment.trial import MAIN_COMPONENTS, TASK_FIELDS
from harness.store.names import PARAM_CONFIG

MOST_CONTENDERS = 12
"""More are no tournament: pairwise tests of all would only show chance."""
DIVERGED = -np.inf
"""Stands for a trial that diverged wherever only the order counts: worse than any value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A contender's best config on a task, chosen on the validation score alone.

    values: by seed, higher is better whatever the metric (`Tournament.sign`), `DIVERGED` among
    them; a seed that failed or is not there is absent. run_ids: by the same seeds.
    """

    task: str
    contender: str
    config: Config
    values: Mapping[int, float]
    run_ids: Mapping[int, str]

    @property
    def finite(self) -> NDArray[np.float64]:
        """Scores of the seeds that are done, in order of the seeds."""
        held = np.array([self.values[seed] for seed in sorted(self.values)], dtype=float)
        return np.asarray(held[np.isfinite(held)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """entries: by (task, contender); a contender of which nothing finished there has none.

    measured: the column that is compared, on the test split where there is one: the config was
    chosen on val. metric: its name. sign: −1 where lower is better; values are multiplied by it.
    """

    tasks: tuple[str, ...]
    contenders: tuple[str, ...]
    task_fields: tuple[str, ...]
    contend_by: tuple[str, ...]
    entries: Mapping[tuple[str, str], Entry]
    measured: str
    metric: str
    sign: int

    def complete(self) -> tuple[str, ...]:
        """The tasks on which every contender has an entry."""
        return tuple(
            task
            for task in self.tasks
            if all((task, contender) in self.entries for contender in self.contenders)
        )


def tournament(comparison: Comparison) -> Tournament | None:
    """None where there are fewer than two contenders, or more than `MOST_CONTENDERS`."""
    contend_by = tuple(name for name in comparison.contend_by if name not in _always_tasks())
    differ = {
        name
        for name in TASK_FIELDS
        if len({config.labels.get(name) for config in comparison.configs}) > 1
    }
    task_fields = tuple(name for name in TASK_FIELDS if name in differ and name not in contend_by)
    best = _best(comparison.configs, task_fields, contend_by)
    contenders = tuple(dict.fromkeys(contender for _, contender in best))
    if not contend_by or not 2 <= len(contenders) <= MOST_CONTENDERS:
        return None
    score = comparison.score
    measured = score.test_column or score.column
    sign = 1 if score.direction == "max" else -1
    places = comparison.trials.groupby(PARAM_CONFIG, sort=False).indices
    entries = {
        (task, contender): _entry(
            task,
            contender,
            config,
            comparison.trials.iloc[places[config.config_id]],
            measured,
            sign,
        )
        for (task, contender), config in best.items()
    }
    return Tournament(
        tasks=tuple(dict.fromkeys(task for task, _ in best)),
        contenders=contenders,
        task_fields=task_fields,
        contend_by=contend_by,
        entries=entries,
        measured=measured,
        metric=score.test or score.metric,
        sign=sign,
    )


def name_of(labels: Mapping[str, str], fields: Sequence[str]) -> str:
    """ "digits, mlp"; fields that are no component are told with their name ("lr 0.1")."""
    plain = (*MAIN_COMPONENTS, "experiment", "study")
    return ", ".join(labels[name] if name in plain else f"{name} {labels[name]}" for name in fields)


def _always_tasks() -> tuple[str, ...]:
    """Data sets never compete: their scores are not of one kind."""
    return ("dataset",)


def _best(
    configs: Sequence[Config], task_fields: Sequence[str], contend_by: Sequence[str]
) -> dict[tuple[str, str], Config]:
    best: dict[tuple[str, str], Config] = {}
    for config in configs:  # In order of rank within a data set.
        if config.rank is not None:
            key = (name_of(config.labels, task_fields), name_of(config.labels, contend_by))
            best.setdefault(key, config)
    return best


def _entry(
    task: str, contender: str, config: Config, trials: pd.DataFrame, measured: str, sign: int
) -> Entry:
    values: dict[int, float] = {}
    run_ids: dict[int, str] = {}
    column = trials[measured] if measured in trials else pd.Series(np.nan, index=trials.index)
    seeds = trials["seed"] if "seed" in trials else pd.Series(range(len(trials)))
    for seed, outcome, value, run_id in zip(
        seeds, trials["outcome"], column, trials["run_id"], strict=True
    ):
        if pd.isna(seed):
            continue
        if outcome == Outcome.DIVERGED:
            values[int(seed)] = DIVERGED
        elif outcome == Outcome.DONE and np.isfinite(value):
            values[int(seed)] = sign * float(value)
        else:
            continue
        run_ids[int(seed)] = str(run_id)
    return Entry(task=task, contender=contender, config=config, values=values, run_ids=run_ids)
