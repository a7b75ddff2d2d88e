"""A benchmark harness for training configurations: one file describes a grid, MLflow keeps it."""

__version__ = "1.0.0"
