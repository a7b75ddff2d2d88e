"""The MLflow store: opening it, writing sweeps into it, reading results from it."""
