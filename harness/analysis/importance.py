"""Which axis mattered: how much of the scores' variance each axis has a part in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEWEST = 20
"""Configs below which a forest says nothing."""
MOST = 2000
"""Configs that are read; of more, as many are drawn."""
TREES = 60
SHUFFLES = 5


@dataclass(frozen=True, slots=True)
class Axis:
    """share: of the variance that the axis has a part in, alone or with others (Sobol's total
    effect); shares of all axes add up to more than 1 where axes interact."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Interaction:
    """share: of the variance that needs both axes."""

    first: str
    second: str
    share: float


@dataclass(frozen=True, slots=True)
class Importance:
    """axes and interactions: the largest first. n: configs. explained: of the variance of configs
    that the forest was not fitted on (out of bag); where it is low the shares say little."""

    task: str
    n: int
    explained: float
    axes: tuple[Axis, ...]
    interactions: tuple[Interaction, ...]


def importance(
    task: str, axes: pd.DataFrame, scores: Sequence[float], generator: np.random.Generator
) -> Importance | None:
    """Fit a random forest to the scores and shuffle its axes.

    axes: a row a config, a column of text for each axis that varies. scores: finite.
    Shuffling one axis, or two together, gives total effects by Jansen's estimator (1999) on the
    forest, the decomposition that fANOVA reads off a forest's leaves (Hutter et al., 2014). None
    below `FEWEST` configs or where all scores agree.
    """
    from sklearn.ensemble import RandomForestRegressor

    target = np.asarray(scores, dtype=float)
    if target.size < FEWEST or np.ptp(target) == 0 or axes.shape[1] == 0:
        return None
    if target.size > MOST:
        drawn = np.sort(generator.choice(target.size, MOST, replace=False))
        target, axes = target[drawn], axes.iloc[drawn]
    # Shares know no scale, and scikit-learn warns of losses that exploded.
    target = target / np.abs(target).max()
    codes, blocks = _encoded(axes)
    forest = RandomForestRegressor(
        n_estimators=TREES,
        oob_score=True,
        bootstrap=True,
        min_samples_leaf=1,
        max_features=0.5,
        random_state=int(generator.integers(2**31)),
    ).fit(codes, target)
    fitted = forest.predict(codes)
    variance = float(fitted.var())
    if variance == 0:
        return None

    def effect(names: Sequence[str]) -> float:
        columns = [column for name in names for column in blocks[name]]
        changes = []
        for _ in range(SHUFFLES):
            shuffled = codes.copy()
            shuffled[:, columns] = codes[generator.permutation(len(codes))][:, columns]
            changes.append(np.mean((forest.predict(shuffled) - fitted) ** 2))
        return float(np.mean(changes)) / (2 * variance)

    names = [str(name) for name in axes.columns]
    single = {name: effect([name]) for name in names}
    leading = sorted(names, key=lambda name: -single[name])[:4]
    together = [
        # What needs both stands in both totals, and once in that of the two.
        Interaction(a, b, max(0.0, single[a] + single[b] - effect([a, b])))
        for a, b in combinations(leading, 2)
    ]
    return Importance(
        task=task,
        n=target.size,
        explained=float(forest.oob_score_),
        axes=tuple(
            Axis(name, min(single[name], 1.0)) for name in sorted(names, key=lambda n: -single[n])
        ),
        interactions=tuple(sorted(together, key=lambda both: -both.share)),
    )


def _encoded(axes: pd.DataFrame) -> tuple[NDArray[np.float64], dict[str, list[int]]]:
    """Numbers as their order, so that a tree can cut between them; text as one column a value."""
    columns: list[NDArray[np.float64]] = []
    blocks: dict[str, list[int]] = {}
    for name in axes.columns:
        values = axes[name].astype(str)
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().all():
            made = [np.asarray(numbers.rank(method="dense"), dtype=float)]
        else:
            made = [np.asarray(values == value, dtype=float) for value in sorted(set(values))]
        blocks[str(name)] = list(range(len(columns), len(columns) + len(made)))
        columns += made
    return np.column_stack(columns), blocks
