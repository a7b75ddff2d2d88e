"""Reads results that another program made: a DataFrame, a CSV file, or somebody else's MLflow
experiment."""
