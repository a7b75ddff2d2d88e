"""Running statistics that are averages over all batches: batch normalisation of `momentum=None`.

torch asks the device for the number of batches to have the factor as a number, which neither
`torch.vmap` nor the capture of a CUDA graph allows. Here it stays a tensor.
"""

from __future__ import annotations

import copy
from functools import partial
from itertools import chain
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def with_own_averages(module: nn.Module) -> nn.Module:
    """`module` itself, or where it has such a layer a copy, of the same tensors, that computes the
    same without a number from the device."""
    if not any(_averages(part) for part in module.modules()):
        return module
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    copied = copy.deepcopy(module, shared)
    for part in copied.modules():
        if _averages(part):
            vars(part)["forward"] = partial(_forward, part)
    return copied


def _averages(part: nn.Module) -> TypeGuard[_BatchNorm]:
    return (
        isinstance(part, _BatchNorm)
        and type(part).forward is _BatchNorm.forward
        and part.momentum is None
        and part.num_batches_tracked is not None
    )


def _forward(part: _BatchNorm, x: Tensor) -> Tensor:
    if not part.training:
        return _BatchNorm.forward(part, x)
    mean, variance = part.get_buffer("running_mean"), part.get_buffer("running_var")
    seen = part.get_buffer("num_batches_tracked")
    part._check_input_dim(x)
    own = torch.zeros_like(mean), torch.zeros_like(variance)
    out = functional.batch_norm(x, *own, part.weight, part.bias, True, 1.0, part.eps)
    seen.add_(1)
    mean.add_((own[0] - mean) / seen)
    variance.add_((own[1] - variance) / seen)
    return out
