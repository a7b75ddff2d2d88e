"""The best config of each optimizer (or of each value of any field), and where its lr lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.analysis.configs import Config

Edge = Literal["", "lowest", "highest", "only"]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best of a group of configs. tried: learning rates of which a trial finished.

    edge: whether the best is the lowest, the highest or the only one of them: a better one may
    then lie outside. tied: other configs of the group with the same rank.
    """

    best: Config
    tried: tuple[str, ...]
    edge: Edge
    tied: int


def best_of_each(ranked: Sequence[Config], by: Sequence[str]) -> tuple[Tuned, ...]:
    """The first config in rank of each combination of the fields `by` within a task, in order of
    rank. A group of which nothing finished is left out.

    ranked: of `configs.rank`.
    """
    groups: dict[tuple[str, ...], list[Config]] = defaultdict(list)
    for config in ranked:
        if config.rank is not None:
            groups[config.task, *(config.labels[name] for name in by)].append(config)
    return tuple(_tuned(group) for group in groups.values())


def _tuned(group: Sequence[Config]) -> Tuned:
    best = group[0]
    tried = tuple(sorted({config.labels["lr"] for config in group}, key=float))
    tied = sum(config.rank == best.rank for config in group) - 1
    return Tuned(best, tried, lr_edge(best.labels["lr"], tried), tied)


def lr_edge(best: str, tried: Sequence[str]) -> Edge:
    """Where the best learning rate lies among those tried, which are in ascending order."""
    if len(tried) < 2:
        return "only"
    if best == tried[0]:
        return "lowest"
    return "highest" if best == tried[-1] else ""
