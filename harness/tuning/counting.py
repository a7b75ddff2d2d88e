"""What of a study's points counts: towards its budget, and as an improvement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from optuna.trial import FrozenTrial, TrialState

UNCOUNTED: Final = "uncounted"
"""User attribute: why a point is no part of the budget."""
SECONDS: Final = "seconds"
"""User attribute: of training, where a budget of time is asked for."""
OUTCOME: Final = "outcome"
"""User attribute of a point without a value: what became of it."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a point is part of the budget, finished or not."""
    return trial.state is not TrialState.WAITING and UNCOUNTED not in trial.user_attrs


def added(points: int, seconds: float, trial: FrozenTrial) -> tuple[int, float]:
    """Points and seconds with those of one more."""
    if not counts(trial):
        return points, seconds
    return points + 1, seconds + trial.user_attrs.get(SECONDS, 0.0)


def ending(trial: FrozenTrial) -> str:
    """How a point ended: "done", "pruned", "diverged", "failed"; or "running"."""
    if trial.state is TrialState.COMPLETE:
        return "done"
    if trial.state is TrialState.RUNNING:
        return "running"
    return str(trial.user_attrs.get(OUTCOME, "failed"))


def stale(points: Iterable[FrozenTrial], upward: bool) -> int:
    """Finished points since the last that was better than all before it. upward: higher is."""
    best: float | None = None
    since = 0
    for trial in points:
        if trial.state is TrialState.RUNNING:
            continue
        since += 1
        if trial.state is TrialState.COMPLETE:
            value = trial.values[0]
            if best is None or (value > best if upward else value < best):
                best, since = value, 0
    return since
