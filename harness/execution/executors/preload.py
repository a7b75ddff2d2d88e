"""What every worker needs, imported once before workers are forked from that process.

Nothing here may start a thread or touch a device: neither survives a fork.
"""

# ruff: noqa: E402, F401

import gc
import signal

# Ctrl-C goes to every process of a terminal, and this one may still be importing.
signal.signal(signal.SIGINT, signal.SIG_IGN)

import torch._dynamo  # by torch's optimizers, at their first step

import harness.training.loop
import harness.training.setup

# What was imported stays: workers neither look through it for garbage nor, by that, copy it.
gc.freeze()
