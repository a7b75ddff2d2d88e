"""Tuning with Optuna: studies, the search loop, samplers, pruners, retraining."""
