"""Reads results from MLflow."""
