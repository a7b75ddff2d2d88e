"""Which axis mattered: the share of the scores' variance that depends on each axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.comparison import Comparison
from harness.core.text import plural
from harness.report.blocks import Block, Paragraph, ReportTable, by_task, columns, with_task
from harness.report.figures import BarChart, Figure
from harness.report.section import Section, about_points, points_tried

FEWEST = 20
"""Fewest configs: of fewer, a random forest says nothing."""
MOST = 2000
"""Most configs that are read; of more, this many are drawn at random."""
TREES = 60
SHUFFLES = 5
MOST_PAIRED = 4
"""Axes, the largest first, whose interactions are computed."""


@dataclass(frozen=True, slots=True)
class AxisEffect:
    """share: of the variance that depends on the axis, alone or with others (Sobol's total effect).
    The shares of all axes add up to more than 1 if axes interact."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Interaction:
    """share: of the variance that depends on both axes together."""

    first: str
    second: str
    share: float


@dataclass(frozen=True, slots=True)
class Importance:
    """axes, interactions: the largest first. n: configs. explained: the share of the variance
    explained for configs that the forest was not fitted on (out of bag); if it is low, the other
    shares say little. missing: combinations of the axes' values that have no score."""

    task: str
    n: int
    explained: float
    axes: tuple[AxisEffect, ...]
    interactions: tuple[Interaction, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class AxisImportance:
    """tasks: one importance for each data set with enough configs. left_out: configs without a
    score. tried: how many points of a search this is about; 0 if it is about the trials compared.
    """

    metric: str
    tasks: tuple[Importance, ...]
    left_out: int
    insufficient: str
    tried: int


def record(comparison: Comparison) -> AxisImportance | None:
    tried = points_tried(comparison)
    comparison = comparison.exploration
    if len(comparison.shown) < 2:
        return None
    generator = comparison.generator("importance")
    with_score = [config for config in comparison.configs if config.mean is not None]
    tasks = []
    for task, configs in by_task(with_score).items():
        labels = pd.DataFrame([config.labels for config in configs])
        names = [name for name in comparison.shown if name in labels and labels[name].nunique() > 1]
        scores = [config.mean for config in configs if config.mean is not None]
        tasks.append(importance(task, labels[names], scores, generator))
    computed = tuple(task for task in tasks if task is not None)
    few = "" if computed else f"fewer than {FEWEST} configs with different scores on a data set"
    left_out = len(comparison.configs) - len(with_score)
    return AxisImportance(comparison.score.metric, computed, left_out, few, tried)


def blocks(axes: AxisImportance) -> tuple[Block, ...]:
    if axes.insufficient:
        return (Paragraph(f"Insufficient data: {axes.insufficient}."),)
    intro = (
        f"Share of the variance of {axes.metric} between configs that depends on an axis, alone or "
        "with others (total effects on a random forest); for a pair, the share that depends on "
        "both together. Explained: of the variance of configs that the forest was not fitted on."
    )
    notes = []
    if axes.left_out:
        notes.append(Paragraph(f"Without a score, and left out: {axes.left_out} configs."))
    notes += [Paragraph(text, "caution") for text in _gaps(axes)]
    return (*about_points(axes.tried), Paragraph(intro), *map(_table, axes.tasks), *notes)


def _gaps(axes: AxisImportance) -> Iterator[str]:
    """Yields a caution for each task whose configs are not a product. A search draws its points,
    and leaves no gaps on purpose."""
    for of in axes.tasks if axes.tried == 0 else ():
        if of.missing:
            task = f" of {of.task}" if of.task else ""
            yield (
                f"{plural(of.missing, 'combination')} of these axes{task} without a score: the "
                "shares of axes that do not vary independently cannot be told apart."
            )


def figures(axes: AxisImportance) -> tuple[Figure, ...]:
    return tuple(
        BarChart(
            title=with_task("Which axis mattered", of.task),
            x="share of the variance",
            bars=_shares(of, least=0.01),
        )
        for of in axes.tasks
    )


def _shares(of: Importance, least: float = 0.0) -> tuple[tuple[str, float], ...]:
    """Returns the share of each axis, and of each pair of axes with at least `least`."""
    pairs = [(f"{both.first} × {both.second}", both.share) for both in of.interactions]
    axes = [(axis.name, axis.share) for axis in of.axes]
    return (*axes, *(pair for pair in pairs if pair[1] >= least))


def _table(of: Importance) -> ReportTable:
    rows = tuple((name, f"{share:.0%}") for name, share in _shares(of))
    caption = f"{of.n} configs, {max(of.explained, 0):.0%} explained"
    caption = f"{of.task}: {caption}" if of.task else caption
    return ReportTable(columns("axis", numeric=("share",)), rows, caption)


def importance(
    task: str, axes: pd.DataFrame, scores: Sequence[float], generator: np.random.Generator
) -> Importance | None:
    """Fits a random forest to the scores and shuffles its axes.

    Shuffling one axis, or two together, gives total effects by Jansen's estimator (1999) on the
    forest, the decomposition that fANOVA reads off a forest's leaves (Hutter et al., 2014).

    axes: a row for each config, a column of text for each axis that varies. scores: finite.

    Returns None for fewer than `FEWEST` configs or if all scores agree.
    """
    target = np.asarray(scores, dtype=float)
    if target.size < FEWEST or np.ptp(target) == 0 or axes.shape[1] == 0:
        return None
    missing = prod(axes.nunique()) - target.size
    if target.size > MOST:
        drawn = np.sort(generator.choice(target.size, MOST, replace=False))
        target, axes = target[drawn], axes.iloc[drawn]
    codes, columns_of = _encode(axes)
    forest = _fit_forest(codes, target, generator)
    fitted = forest.predict(codes)
    if fitted.var() == 0:
        return None

    def effect(*names: str) -> float:
        shuffled_columns = np.concatenate([columns_of[name] for name in names])
        changes = []
        for _ in range(SHUFFLES):
            shuffled = codes.copy()
            order = generator.permutation(len(codes))
            shuffled[:, shuffled_columns] = codes[order][:, shuffled_columns]
            changes.append(np.mean((forest.predict(shuffled) - fitted) ** 2))
        return float(np.mean(changes) / (2 * fitted.var()))

    effects = {name: effect(name) for name in columns_of}
    ordered = sorted(effects, key=lambda name: -effects[name])
    interactions = [
        # What depends on both is in both total effects, and once in that of the pair.
        Interaction(a, b, max(0.0, effects[a] + effects[b] - effect(a, b)))
        for a, b in combinations(ordered[:MOST_PAIRED], 2)
    ]
    return Importance(
        task=task,
        n=target.size,
        explained=float(forest.oob_score_),
        axes=tuple(AxisEffect(name, min(effects[name], 1.0)) for name in ordered),
        interactions=tuple(sorted(interactions, key=lambda both: -both.share)),
        missing=missing,
    )


def _fit_forest(
    codes: NDArray[np.float64], target: NDArray[np.float64], generator: np.random.Generator
) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_estimators=TREES,
        oob_score=True,
        max_features=0.5,
        random_state=int(generator.integers(2**31)),
    )
    # Shares have no scale, and scikit-learn warns of losses that exploded.
    return forest.fit(codes, target / np.abs(target).max())


def _encode(axes: pd.DataFrame) -> tuple[NDArray[np.float64], dict[str, NDArray[np.intp]]]:
    """Returns numeric axes as ranks, so that a tree can split between them, and other axes with one
    column for each value; and each axis's columns."""
    encoded: dict[str, pd.DataFrame] = {}
    for name in axes.columns:
        values = axes[name].astype(str)
        numbers = pd.to_numeric(values, errors="coerce")
        ranks = numbers.rank(method="dense").to_frame()
        encoded[str(name)] = ranks if numbers.notna().all() else pd.get_dummies(values)
    codes = pd.concat(encoded, axis="columns")
    axis_of = codes.columns.get_level_values(0)
    columns_of = {name: np.flatnonzero(axis_of == name) for name in encoded}
    return codes.to_numpy(dtype=float), columns_of


SECTION = Section("importance", "Which axis mattered", record, blocks, figures, order=90)
