"""Contenders and tasks: each contender's best config on each task, with its scores by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.comparison import TASK, Comparison
from harness.analysis.configs import Config, name_of
from harness.analysis.resolution import DOUBLE, resolution_of
from harness.core.records import Outcome
from harness.experiment.trial import TASK_FIELDS
from harness.store.names import ABSENT, PARAM_CONFIG

MOST_CONTENDERS = 12
"""Most contenders of a tournament: tests of all pairs of more would only show chance."""
DIVERGED = -np.inf
"""The value of a trial that diverged wherever only the order counts: worse than any score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderEntry:
    """A contender's best config on a task, chosen on the validation score alone.

    values: by seed, higher is better whatever the metric (see `Tournament.sign`), `DIVERGED` for
        trials that diverged. A seed whose trial failed or does not exist is absent.
    run_ids: by the same seeds.
    """

    task: str
    contender: str
    config: Config
    values: Mapping[int, float]
    run_ids: Mapping[int, str]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The values in order of the seeds [n], `DIVERGED` among them."""
        return np.array([self.values[seed] for seed in sorted(self.values)], dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """All contenders on all tasks.

    entries: by (task, contender). A contender has no entry on a task on which no trial finished.
    metric: the compared metric; of the test split if it was measured, since the validation split
        chose the configs.
    sign: 1 if higher is better, else −1; the entries' values are multiplied by it.
    resolution: the metric's (see `resolution.resolution_of`).
    """

    tasks: tuple[str, ...]
    contenders: tuple[str, ...]
    task_fields: tuple[str, ...]
    contend_by: tuple[str, ...]
    entries: Mapping[tuple[str, str], ContenderEntry]
    metric: str
    sign: int
    resolution: float = DOUBLE

    def complete_tasks(self) -> tuple[str, ...]:
        """Returns the tasks on which every contender has an entry."""
        return tuple(
            task
            for task in self.tasks
            if all((task, contender) in self.entries for contender in self.contenders)
        )

    def run_ids(self) -> list[str]:
        """Returns the runs of all entries."""
        return [run_id for entry in self.entries.values() for run_id in entry.run_ids.values()]

    def paired_scores(
        self, task: str, first: str, second: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the values of two contenders, each [n], on the seeds that both have."""
        a, b = self.entries[task, first].values, self.entries[task, second].values
        seeds = sorted(a.keys() & b.keys())
        return (
            np.array([a[seed] for seed in seeds], dtype=float),
            np.array([b[seed] for seed in seeds], dtype=float),
        )

    def mean_scores(self, tasks: Sequence[str]) -> NDArray[np.float64]:
        """Returns mean scores [task, contender], higher is better; −inf where at least half of the
        seeds diverged. Every contender must have an entry on each of the tasks."""
        means = [[mean_score(self.entries[t, c].scores) for c in self.contenders] for t in tasks]
        return np.array(means).reshape(len(tasks), len(self.contenders))


def mean_score(values: NDArray[np.float64]) -> float:
    """Returns the mean over seeds that are done; −inf if at least half of them diverged."""
    done = values[np.isfinite(values)]
    return float(done.mean()) if 2 * done.size > values.size else DIVERGED


def make_tournament(comparison: Comparison) -> Tournament | None:
    """Returns None for fewer than two contenders, or more than `MOST_CONTENDERS`."""
    # Data sets never compete: their scores are not comparable.
    contend_by = tuple(name for name in comparison.contend_by if name != TASK)
    task_fields = varying_task_fields(comparison, contend_by)
    best: dict[tuple[str, str], Config] = {}
    for config in comparison.configs:  # In order of rank within a data set.
        if config.rank is not None:
            key = (name_of(config.labels, task_fields), name_of(config.labels, contend_by))
            best.setdefault(key, config)
    contenders = tuple(dict.fromkeys(contender for _, contender in best))
    if not contend_by or not 2 <= len(contenders) <= MOST_CONTENDERS:
        return None
    score = comparison.score
    column = score.test_column or score.column
    places = comparison.trials.groupby(PARAM_CONFIG, sort=False).indices
    entries = {}
    for (task, contender), config in best.items():
        trials = comparison.trials.iloc[places[config.config_id]]
        values, run_ids = _by_seed(trials, column, score.sign)
        entries[task, contender] = ContenderEntry(
            task=task, contender=contender, config=config, values=values, run_ids=run_ids
        )
    return Tournament(
        tasks=tuple(dict.fromkeys(task for task, _ in best)),
        contenders=contenders,
        task_fields=task_fields,
        contend_by=contend_by,
        entries=entries,
        metric=score.test or score.metric,
        sign=score.sign,
        resolution=resolution_of(comparison.trials.get(column, [])),
    )


def varying_task_fields(comparison: Comparison, contend_by: Sequence[str]) -> tuple[str, ...]:
    """Returns the fields that tell tasks apart: those that differ and do not compete. Of results
    that another program made, it is said which these are. A training loop that has no model may
    compete with a model."""
    return tuple(
        name
        for name in (TASK_FIELDS if comparison.external is None else (TASK,))
        if name not in contend_by
        and len({config.labels.get(name) for config in comparison.configs} - {ABSENT}) > 1
    )


def _by_seed(
    trials: pd.DataFrame, column: str, sign: int
) -> tuple[dict[int, float], dict[int, str]]:
    """Returns the value and the run id of each seed that finished."""
    table = trials.reindex(columns=["run_id", "seed", "outcome", column])
    if "seed" not in trials:
        table["seed"] = trials.index  # No two runs have the same, so that none are paired.
    values: dict[int, float] = {}
    run_ids: dict[int, str] = {}
    for run_id, seed, outcome, score in table.itertuples(index=False):
        diverged = outcome == Outcome.DIVERGED
        if pd.notna(seed) and (diverged or (outcome == Outcome.DONE and np.isfinite(score))):
            values[int(seed)] = DIVERGED if diverged else sign * float(score)
            run_ids[int(seed)] = str(run_id)
    return values, run_ids
