"""Reads an experiment file into a validated experiment."""
