"""The MLflow store: opening it, writing to it, reading from it."""
