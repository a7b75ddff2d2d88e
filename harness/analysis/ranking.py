"""The order of configs: the score that ranks them, their ranks, and the best of each group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from harness.analysis.configs import Config, learning_rate
from harness.analysis.resolution import DOUBLE, resolve
from harness.components.base import Metric
from harness.components.registry import UnknownComponent, find
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.metrics import BEST, FINAL, GIVEN, Direction, test_metric
from harness.store.read.external.roles import Epoch

Edge = Literal["", "lowest", "highest", "only"]


@dataclass(frozen=True, slots=True)
class Score:
    """The scalar that ranks configs.

    metric: "val/accuracy".
    epoch: "best" reads the metric at each trial's best epoch by `selected_on`, the experiment's
        selection metric; "final" reads it after the last epoch; "given" reads the one value that
        another program kept.
    test: the same measure of the test split at the same epoch; None if the metric is of the test
        split itself or the test split was not measured.
    """

    metric: str
    epoch: Epoch
    direction: Direction
    selected_on: str
    test: str | None = None

    @property
    def column(self) -> str:
        """The scalar's column in the table of trials."""
        return f"{self.epoch}/{self.metric}"

    @property
    def test_column(self) -> str | None:
        return None if self.test is None else f"{self.epoch}/{self.test}"

    @property
    def sign(self) -> int:
        """1 if higher is better, else −1."""
        return 1 if self.direction == "max" else -1

    @property
    def saw_test(self) -> bool:
        """Whether the test split influenced which config is called best."""
        return _is_of_test(self.metric) or (self.epoch == "best" and _is_of_test(self.selected_on))


def choose_score(
    scalars: Collection[str],
    selected_on: str,
    direction: Direction,
    metric: str | None = None,
    epoch: Epoch = "best",
) -> Score:
    """Returns the score for a metric, by default the selection metric at the best epoch.

    scalars: the names that the trials have.
    metric: "val/loss" or "final/val/loss" reads the last epoch, "best/val/loss" the best epoch by
        the selection metric.
    epoch: of the selection metric.

    Raises InputError, with the closest name, if no trial has the metric or if it is not known
    which direction is better.
    """
    chosen = selected_on
    if metric is not None and metric != selected_on:
        if epoch != "given":
            epoch = "best" if metric.startswith(BEST) else "final"
        chosen = metric.removeprefix(BEST).removeprefix(FINAL)
        if f"{epoch}/{chosen}" not in scalars:
            of_runs = (name for name in scalars if name.startswith((FINAL, GIVEN)))
            known = {name.partition("/")[2] for name in of_runs}
            raise InputError(
                Problem(f"--metric: no trial has {metric!r}", hint=did_you_mean(metric, known))
            )
        if chosen != selected_on:
            direction = _better_direction(chosen)
    split, slash, measure = chosen.partition("/")
    test = test_metric(chosen) or (f"test/{measure}" if slash else "")
    has_test = split != "test" and f"{epoch}/{test}" in scalars
    return Score(chosen, epoch, direction, selected_on, test if has_test else None)


def _is_of_test(metric: str) -> bool:
    return metric.startswith(("test/", "test_"))


def _better_direction(metric: str) -> Direction:
    """Returns the direction that the metric's component declares; a loss is minimised."""
    measure = metric.rpartition("/")[2]
    if measure == "loss":
        return "min"
    try:
        component = find("metrics", measure)
    except UnknownComponent:
        component = None
    if not isinstance(component, Metric):
        raise InputError(
            f"--metric: it is not known whether a higher or a lower {metric} is better"
        )
    return component.direction


def rank(
    configs: Sequence[Config], direction: Direction, resolution: float = DOUBLE
) -> tuple[Config, ...]:
    """Returns the configs in order, with their ranks. Means that differ by rounding alone, such as
    sums in another order, become equal.

    A trial that diverged is worse than any value: within a task, the config with the smaller share
    of diverged trials goes first, then the one with the better mean. A config of which no trial
    finished goes last.
    """
    sign = -1 if direction == "max" else 1

    means = [np.nan if config.mean is None else config.mean for config in configs]
    configs = [
        replace(config, mean=None if config.mean is None else float(mean))
        for config, mean in zip(configs, resolve(means, resolution), strict=True)
    ]

    def key(config: Config) -> tuple[bool, float, float]:
        mean = np.inf if config.mean is None else sign * config.mean
        return config.n + config.diverged == 0, config.divergence or 0.0, mean

    tasks = {task: place for place, task in enumerate(dict.fromkeys(c.task for c in configs))}
    ranked: list[Config] = []
    in_order = sorted(configs, key=lambda config: (tasks[config.task], *key(config)))
    for _, of_task in groupby(in_order, key=lambda config: config.task):
        place = 1
        for (unfinished, *_), equal in groupby(of_task, key=key):
            equals = list(equal)
            ranked += [replace(config, rank=None if unfinished else place) for config in equals]
            place += len(equals)
    return tuple(ranked)


@dataclass(frozen=True, slots=True)
class ConfigGroup:
    """The best config of a group, such as all configs of one optimizer.

    tried: the group's learning rates of which a trial finished (see `configs.learning_rate`).
    edge: whether the best learning rate is the lowest, the highest or the only one of those; a
        better one may then lie outside.
    tied: how many other configs of the group have the same rank.
    configs: how many configs the best was chosen among.
    """

    best: Config
    tried: tuple[str, ...]
    edge: Edge
    tied: int
    configs: int


def best_of_each(ranked: Sequence[Config], by: Sequence[str]) -> tuple[ConfigGroup, ...]:
    """Returns the best config of each combination of the fields `by` within a task, in order of
    rank. Groups of which no trial finished are left out.

    ranked: as `rank` returns them.
    """
    groups: dict[tuple[str, ...], list[Config]] = defaultdict(list)
    for config in ranked:
        if config.rank is not None:
            groups[config.task, *(config.labels[name] for name in by)].append(config)
    best = []
    for first, *others in groups.values():
        rates = {
            c.labels["lr"]: learning_rate(c.labels) for c in (first, *others) if "lr" in c.labels
        }
        tried = tuple(sorted((lr for lr, rate in rates.items() if rate is not None), key=float))
        tied = sum(config.rank == first.rank for config in others)
        edge = lr_edge(first.labels.get("lr", ""), tried)
        best.append(ConfigGroup(first, tried, edge, tied, 1 + len(others)))
    return tuple(best)


def lr_edge(best: str, tried: Sequence[str]) -> Edge:
    """Returns where the best learning rate lies among those tried, which are in ascending order."""
    if len(tried) < 2 or best not in tried:
        return "only"
    if best == tried[0]:
        return "lowest"
    return "highest" if best == tried[-1] else ""
