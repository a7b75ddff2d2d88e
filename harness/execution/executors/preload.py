"""Imports what every worker needs, once, in the process from which workers are forked.

Nothing here may start a thread or touch a device: neither survives a fork.
"""

# ruff: noqa: E402, F401

import gc
import signal

# Ctrl-C goes to every process of a terminal, and this one may still be importing.
signal.signal(signal.SIGINT, signal.SIG_IGN)

import torch._dynamo  # torch's optimizers import it at their first step

import harness.training.loop
import harness.training.setup

# Workers then neither search the imported objects for garbage nor, by that, copy their memory.
gc.freeze()
