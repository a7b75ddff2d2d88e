"""A benchmark harness for training configurations: one file describes a grid, MLflow keeps it."""

__version__ = "1.0.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.comparison import Comparison as Comparison
    from harness.api.experiment import Experiment as Experiment
    from harness.api.experiment import load as load
    from harness.api.results import Results as Results
    from harness.api.results import results as results
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
    from harness.core.errors import HarnessError as HarnessError
    from harness.core.errors import InputError as InputError
    from harness.core.errors import StoreError as StoreError
    from harness.core.errors import TrialFailed as TrialFailed

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
PLACES = {
    **dict.fromkeys(DECORATORS, "components.decorators"),
    "Batch": "components.base",
    "DataInfo": "components.base",
    "TrialContext": "components.trial_context",
    "Experiment": "api.experiment",
    "load": "api.experiment",
    "Results": "api.results",
    "results": "api.results",
    "Comparison": "api.comparison",
    "HarnessError": "core.errors",
    "InputError": "core.errors",
    "StoreError": "core.errors",
    "TrialFailed": "core.errors",
}
"""The module of each name that the package offers."""

__all__ = [
    *PLACES,
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `import harness` itself loads nothing else."""
    from importlib import import_module

    if name in PLACES:
        return getattr(import_module(f"harness.{PLACES[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
