"""Writes sweeps and studies to MLflow."""
