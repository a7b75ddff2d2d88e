"""What is said about results that another program made: which column is what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.core.errors import InputError, Problem
from harness.core.metrics import BEST, Direction

Epoch = Literal["best", "final", "given"]
"""Which value of the metric a run has: that of its best step, that of its last one, or a value of
which only the program that made it knows how it was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRoles:
    """Which columns of a table of runs say what; for MLflow, which params, tags and metric.

    by: the columns that compete. task: those that say what was learned; none if all runs learned
    the same. seed: "" if no column says which runs had the same seed.
    metric, direction: the score, and which direction is better. best: whether a run's best step
    counts, not its last one.
    config: further settings that tell the configs of a contender apart.
    where: those by which trials are chosen.
    """

    by: tuple[str, ...]
    metric: str
    direction: Direction
    best: bool = False
    task: tuple[str, ...] = ()
    seed: str = ""
    config: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """The columns that make a config, without the task."""
        return (*self.by, *self.config, *self.where)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that say something of every run."""
        return (*self.by, *self.task, *([self.seed] if self.seed else []))

    @property
    def flags(self) -> dict[str, str]:
        """The flag of each column."""
        seed = {self.seed: "--seed"} if self.seed else {}
        return {
            **dict.fromkeys(self.by, "--by"),
            **dict.fromkeys(self.task, "--task"),
            **seed,
            self.metric: "--metric",
            **dict.fromkeys(self.config, "--config"),
            **dict.fromkeys(self.where, "--where"),
        }

    @property
    def descriptive(self) -> tuple[str, ...]:
        """Every column that says what a run was."""
        return (*self.settings, *self.task, *([self.seed] if self.seed else []))


def column_roles(
    *,
    by: str | Sequence[str],
    metric: str,
    task: str | Sequence[str] | None = None,
    seed: str | None = None,
    config: str | Sequence[str] | None = None,
    where: Sequence[str] = (),
    steps: bool = False,
) -> ColumnRoles:
    """Checks what a user said about columns.

    metric: with its direction, as "acc:max" or "loss:min".
    where: columns by which trials are chosen, whatever else they are.
    steps: whether the metric has several values a run, of which "best/acc:max" asks for the best.

    Raises InputError for a metric without a direction, or for a column with two roles.
    """
    name, direction = split_direction(metric)
    best = steps and name.startswith(BEST)
    chosen = (*_columns(by), *_columns(task), *_columns(config), seed)
    roles = ColumnRoles(
        by=_columns(by),
        metric=name.removeprefix(BEST) if best else name,
        direction=direction,
        best=best,
        task=_columns(task),
        seed=seed or "",
        config=_columns(config),
        where=tuple(dict.fromkeys(name for name in where if name not in chosen)),
    )
    if not roles.by:
        raise InputError(
            Problem("--by: names no column", hint="name what competes: --by optimizer")
        )
    columns = (*roles.descriptive, roles.metric)
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    if twice:
        what = f"{twice[0]!r} is named twice: of --by, --task, --seed, --metric and --config, "
        raise InputError(f"{what}a column answers one")
    return roles


def split_direction(metric: str) -> tuple[str, Direction]:
    """Returns "acc:max" as ("acc", "max"). Raises InputError without a direction."""
    name, colon, direction = metric.rpartition(":")
    if colon and name.strip() and direction.strip() == "max":
        return name.strip(), "max"
    if colon and name.strip() and direction.strip() == "min":
        return name.strip(), "min"
    bare = (name if colon and name else metric).strip() or "acc"
    hint = f"say which direction is better: --metric {bare}:max or --metric {bare}:min"
    raise InputError(Problem("has no direction", where=f"--metric {metric!r}", hint=hint))


def _columns(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns names of columns, given as one name or as several."""
    listed = [names] if isinstance(names, str) else list(names or ())
    return tuple(filter(None, listed))


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """What is known of results that another program made.

    by: the fields that compete. epoch: which value of the metric the runs have.
    fields: the field of each column that describes a run.
    seeded: whether it is known which runs had the same seed.
    notes: what a reader of the report must know of them.
    facts: where they come from, by name.
    """

    by: tuple[str, ...]
    epoch: Epoch
    seeded: bool
    fields: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
