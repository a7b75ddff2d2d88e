"""The points of a study whose grid is a list of sub-grids: those that stand in one of them.

Each axis of the grid is a dimension, but the product of the dimensions has more points than the
sub-grids together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from harness.experiment.experiment import CategoricalDimension, Dimension, Search
from harness.experiment.fields import split
from harness.experiment.trial import Trial, plain


class SubGridPoints:
    """trials: those of the grid that belong to the study."""

    def __init__(self, search: Search, trials: Sequence[Trial]) -> None:
        self.axes = search.sub_grid_axes
        self.trials = trials
        self.own_options = {d.field for d in search.space if "." in d.field}
        self.searched_apart = self.own_options - set(self.axes)
        self.points = frozenset(map(self._point, trials))

    def hold(self, trial: Trial) -> bool:
        """Whether a sub-grid has a trial with these values on the axes."""
        return self._point(trial) in self.points

    def narrowed(self, dimension: Dimension) -> Dimension | None:
        """Returns the dimension with the values alone that the study's trials have, if any."""
        if dimension.field not in self.axes or not isinstance(dimension, CategoricalDimension):
            return dimension
        root, option = split(dimension.field)

        def text_of(value: Any) -> str:
            return repr(value) if option else _text(root, value, self.own_options)

        found: dict[str, Any] = {}
        for trial in self.trials:
            value = getattr(trial, root)
            if option and option not in type(value.options).model_fields:
                continue
            value = getattr(value.options, option) if option else value
            found.setdefault(text_of(value), value)
        listed = {text_of(value): value for value in dimension.values}
        kept = [value for text, value in listed.items() if text in found]
        others = [value for text, value in found.items() if text not in listed]
        return replace(dimension, values=(*kept, *others)) if found else None

    def _point(self, trial: Trial) -> tuple[str, ...]:
        roots = dict.fromkeys(split(name)[0] for name in self.axes)
        return tuple(_text(root, getattr(trial, root), self.searched_apart) for root in roots)


def _text(root: str, value: Any, without: Iterable[str]) -> str:
    """Returns a value as text, a component without the options that are named."""
    of = plain(value)
    if isinstance(of, dict):
        of = {name: part for name, part in of.items() if f"{root}.{name}" not in without}
    return repr(of)
