"""Types of the fixtures that load experiments from text."""

from __future__ import annotations

from collections.abc import Callable

from harness.core.errors import Problem
from harness.experiment.experiment import Experiment

Load = Callable[..., Experiment]
"""(text, *overrides) → the experiment."""
Problems = Callable[..., list[Problem]]
"""(text, *overrides) → what is wrong with it."""
