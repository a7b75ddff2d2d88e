"""How many trials of a stack fit into memory: measured on one step of two of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from harness.experiment.trial import Trial
from harness.training.stacked.stack import Stack

SHARE = 0.5
"""Of the free memory that stacks may take, all workers together."""
PROBED = 2
STATES = 7
"""Rows of parameters that a trial holds at most: values, gradient and its parts, and an optimizer's
state with room to work."""
STEPS = 2
"""What backward saves is met by gradients of like size."""
STATES_PROVING = 8
"""More of them on a GPU, where a recorded update is held to the update itself: what is trained,
copied before it and after it."""
STEPS_RECORDED = 2
"""On a GPU an update that is recorded keeps its memory for itself, beside what an epoch's shorter
batch and evaluations take; it is had back when the stack ends."""
OUTPUTS = 5
"""Copies of an epoch's outputs at most: by batch, joined, those of the epoch before, and what
metrics make of them."""


def fitting(trials: Sequence[tuple[str, Trial]], data_root: Path, device: torch.device) -> int:
    """The most trials whose stack takes at most its share of what is free now; at least 1.

    Raises Unstackable, and what building a trial's parts raises.
    """
    return max(1, int(_free(device) * SHARE / bytes_a_trial(trials, data_root, device)))


def bytes_a_trial(
    trials: Sequence[tuple[str, Trial]], data_root: Path, device: torch.device
) -> int:
    """Memory that each trial of a stack adds to it at most, in training."""
    stack = Stack(trials[:PROBED], data_root, device)
    places = stack.pools.train.shuffled(stack.seeds, 1)[:, : stack.trial.batch_size]
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    streams, numbers = stack.streams(1), next(iter(stack.numbers(1)))
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        logits, losses, targets = stack.step(places, numbers, streams.masks, streams.augment_batch)
    of_example = sum(one[0, 0].nbytes for one in (logits, losses, targets))
    on_gpu = device.type == "cuda"
    rows = (STATES + on_gpu * STATES_PROVING) * stack.network.values[0].nbytes
    saved.pop(stack.network.values.untyped_storage().data_ptr(), None)
    step = sum(saved.values()) // stack.size
    steps = STEPS + on_gpu * STEPS_RECORDED
    return rows + steps * step + OUTPUTS * of_example * len(stack.pools.train)


def _free(device: torch.device) -> int:
    """Bytes of a device's memory that this process may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    return int(psutil.virtual_memory().available) // workers
