"""What a study stores with its points beside Optuna's own record of them."""

from __future__ import annotations

from typing import Final

from optuna.trial import FrozenTrial, TrialState

# User attributes of a point.
UNCOUNTED: Final = "uncounted"
"""Why the point is no part of the budget."""
LEFT_OUT: Final = "left_out"
"""Set where the point was drawn and not trained: the next draw uses other random numbers."""
SECONDS: Final = "seconds"
"""Seconds of training, where the budget is one of time."""
OUTCOME: Final = "outcome"
"""How a point without a value ended."""
UNMEASURED: Final = "without a value"
"""The outcome of a point whose trial is done but lacks an objective's value."""
RETRY_OF: Final = "retry_of"
"""The number of the lost point that this one repeats."""
RETRIES: Final = "retries"
"""How often the point's worker has died."""
KNOWN: Final = "known"
"""Which known point this one is."""
TRIALS: Final = "trial_ids"
"""The ids of the point's trials."""

# User attributes of a study.
EXHAUSTED: Final = "exhausted"
"""Why the study has no point left, and under which rules."""

FIRST_STEP: Final = "first_step"
"""The step of Optuna that the first epoch is; in studies without it 1, else 0."""


def is_counted(optuna_trial: FrozenTrial) -> bool:
    """Whether a point is part of the budget, finished or not."""
    return optuna_trial.state is not TrialState.WAITING and UNCOUNTED not in optuna_trial.user_attrs


def seconds_of(optuna_trial: FrozenTrial) -> float:
    return float(optuna_trial.user_attrs.get(SECONDS, 0.0)) if is_counted(optuna_trial) else 0.0
