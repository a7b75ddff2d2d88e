"""A benchmark harness for training configurations: one file describes a grid, MLflow keeps it."""

__version__ = "1.0.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.components.base import Batch as Batch
    from harness.components.base import DataInfo as DataInfo
    from harness.components.decorators import augmentation as augmentation
    from harness.components.decorators import dataset as dataset
    from harness.components.decorators import loss as loss
    from harness.components.decorators import metric as metric
    from harness.components.decorators import model as model
    from harness.components.decorators import optimizer as optimizer
    from harness.components.decorators import scheduler as scheduler
    from harness.components.decorators import training_loop as training_loop
    from harness.components.decorators import training_step as training_step
    from harness.components.trial_context import TrialContext as TrialContext

DECORATORS = (
    "augmentation",
    "dataset",
    "loss",
    "metric",
    "model",
    "optimizer",
    "scheduler",
    "training_loop",
    "training_step",
)
RECORDS = {"Batch": "base", "DataInfo": "base", "TrialContext": "trial_context"}
"""What the harness passes to a user's code, by the module that has it."""


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `import harness` itself loads nothing else."""
    from importlib import import_module

    if name in DECORATORS:
        return getattr(import_module("harness.components.decorators"), name)
    if name in RECORDS:
        return getattr(import_module(f"harness.components.{RECORDS[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
