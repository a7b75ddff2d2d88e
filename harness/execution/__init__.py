"""Runs trials: a queue, executors, devices, stacks, checkpoints."""
