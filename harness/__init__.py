"""A benchmark harness for training configurations: one file a grid, MLflow for the results."""

__version__ = "0.1.0"
