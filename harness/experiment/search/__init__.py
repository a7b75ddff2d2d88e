"""Reads the `search:` block of an experiment file."""
