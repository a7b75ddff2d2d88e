"""Modules over a stack of trials: a forward pass for all of them at once."""
