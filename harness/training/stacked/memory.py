"""The memory that a stack takes: how much there is, and how much each trial adds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

STACKS_SHARE = 0.5
"""The share of the free memory that the stacks of all workers may take together."""
ROWS = 7
"""The most rows of parameters per trial: values, gradient and its parts, and an optimizer's state
with its temporary tensors."""
STEPS = 2
"""The tensors that a step saves for backward count twice: their gradients are of similar size."""
ROWS_RECORDING = 8
"""Additional rows per trial on a GPU: to prove a CUDA graph, parameters and optimizer state are
copied before and after an update."""
STEPS_RECORDING = 2
"""Additional steps on a GPU: a CUDA graph keeps its memory for itself until the stack ends, while
an epoch's shorter last batch and evaluations take theirs."""
OUTPUT_COPIES = 5
"""The most copies of an epoch's outputs: by batch, concatenated, of the previous epoch, and in
metrics."""


class TooLarge(Exception):
    """A stack would take more memory than it may. max_trials: how many trials fit, at least 1."""

    def __init__(self, max_trials: int) -> None:
        super().__init__(f"{max_trials} trials fit into memory")
        self.max_trials = max_trials


def memory_limit(device: torch.device) -> int:
    """Returns the bytes that a stack of this process may take in training."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
        free = int(psutil.virtual_memory().available) // workers
    return int(free * STACKS_SHARE)


def row_bytes(parameters: int, device: torch.device) -> int:
    """Returns the bytes that a trial takes for its rows. parameters: the bytes of one row."""
    return (ROWS + (device.type == "cuda") * ROWS_RECORDING) * parameters


def step_bytes(saved: int, example: int, examples: int, device: torch.device) -> int:
    """Returns the bytes that a trial takes for activations and outputs.

    saved: the bytes that a step saves for backward. example: those of an example's outputs.
    examples: the size of the training split.
    """
    steps = STEPS + (device.type == "cuda") * STEPS_RECORDING
    return steps * saved + OUTPUT_COPIES * example * examples


@contextmanager
def saved_tensors() -> Iterator[dict[int, int]]:
    """Collects the tensors saved for backward inside: the bytes of each, by address."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes
