"""What configs are ranked on: one scalar of each trial, and which way is better."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from harness.components.base import Metric
from harness.components.registry import UnknownComponent, find
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.metrics import BEST, FINAL

TEST = "test/"


@dataclass(frozen=True, slots=True)
class Score:
    """A scalar that configs are ranked on.

    metric: "val/accuracy". epoch: "best" reads it at each trial's best epoch by `selected_on`,
    the experiment's selection metric; "final" after the last epoch.
    test: the same measure of the test split at the same epoch, shown beside; None where the
    metric is of the test split itself or the test split was not measured.
    """

    metric: str
    epoch: Literal["best", "final"]
    direction: Literal["max", "min"]
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
    def saw_test(self) -> bool:
        """Whether the test split had a say in what is called best."""
        return self.metric.startswith(TEST) or (
            self.epoch == "best" and self.selected_on.startswith(TEST)
        )


def choose_score(
    scalars: Collection[str],
    selected_on: str,
    direction: Literal["max", "min"],
    asked: str | None = None,
) -> Score:
    """The selection metric at the best epoch; or what was asked for: "val/loss" and
    "final/val/loss" read the last epoch, "best/val/loss" the best epoch by the selection metric.

    scalars: the names that the trials have. Raises InputError, with the closest name, for a
    scalar that no trial has or whose better direction is not known.
    """
    epoch: Literal["best", "final"] = "best"
    metric = selected_on
    if asked is not None and asked != selected_on:
        epoch = "best" if asked.startswith(BEST) else "final"
        metric = asked.removeprefix(BEST).removeprefix(FINAL)
        if f"{epoch}/{metric}" not in scalars:
            bare = {name.removeprefix(FINAL) for name in scalars if name.startswith(FINAL)}
            raise InputError(
                Problem(f"--metric: no trial has {asked!r}", hint=did_you_mean(asked, bare))
            )
        if metric != selected_on:
            direction = better_direction(metric)
    split, _, measure = metric.partition("/")
    test = f"{TEST}{measure}"
    has_test = split != "test" and f"{epoch}/{test}" in scalars
    return Score(metric, epoch, direction, selected_on, test if has_test else None)


def better_direction(metric: str) -> Literal["max", "min"]:
    """Which way is better for "val/accuracy", by its measure's component. A loss is minimised."""
    measure = metric.rpartition("/")[2]
    if measure == "loss":
        return "min"
    try:
        component = find("metrics", measure)
    except UnknownComponent:
        component = None
    if not isinstance(component, Metric):
        raise InputError(f"--metric: nothing says which way is better for {metric!r}")
    return component.direction
