"""Modules over a stack: one forward pass computes the outputs of all its trials."""
