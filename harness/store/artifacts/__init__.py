"""Figures, predictions, weights and models of trials."""
