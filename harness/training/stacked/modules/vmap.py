"""Any module as a layer of a stack, by `torch.vmap` over its stacked parameters and buffers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from harness.training.stacked.modules.dropout import DropoutInterceptor, MaskSpec
from harness.training.stacked.modules.forward_pass import ForwardPass, Layer, Unstackable

Values = dict[str, Tensor]


def vmap_layer(module: nn.Module, prefix: str, index: int) -> Layer:
    """Returns a layer that runs `module` with parameters, buffers and dropout masks of each trial.

    prefix: of its parameters' names in the model. index: of the layer. Raises Unstackable.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.rnn.RNNBase):
            where = f"{prefix}{name}".rstrip(".") or "the model"
            raise Unstackable(f"{where}: torch.vmap does not support {type(part).__name__}")
    return Layer(_VmapModule(module, prefix, index).run, is_verified_in_training=True)


class _VmapModule:
    """module: supplies structure and code; the values it holds are not used."""

    def __init__(self, module: nn.Module, prefix: str, index: int) -> None:
        self._module = with_cumulative_averages(module)
        self._parameters = {name: prefix + name for name, _ in module.named_parameters()}
        self._buffers = {name: prefix + name for name, _ in module.named_buffers()}
        self._index = index
        self._mask_specs: dict[torch.Size, tuple[MaskSpec, ...]] = {}

    def run(self, x: Tensor, context: ForwardPass) -> Tensor:
        """[K, B, …] → [K, B, …]; updates the stack's buffers as the module updates its own."""
        self._module.train(context.training)
        parameters = {name: context.parameters[full] for name, full in self._parameters.items()}
        buffers = {name: context.buffers[full] for name, full in self._buffers.items()}
        if context.masks is None:
            # In evaluation dropout is not intercepted: torch refuses a module that draws anyway.
            dropout = DropoutInterceptor() if context.training else None
            return self._call(x, parameters, buffers, dropout)
        specs = self._mask_specs.get(x.shape[1:])
        if specs is None:
            specs = self._mask_specs[x.shape[1:]] = self._find_masks(x, parameters, buffers)
        masks = [
            context.masks.next(f"{self._index}.{use}", spec.shape, spec.p)
            for use, spec in enumerate(specs)
        ]
        return self._call(x, parameters, buffers, DropoutInterceptor(specs), masks)

    def _find_masks(self, x: Tensor, parameters: Values, buffers: Values) -> tuple[MaskSpec, ...]:
        """Runs a pass on copied buffers, and returns the masks that inputs of this shape need."""
        dropout = DropoutInterceptor()
        with torch.no_grad():
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            self._call(x, parameters, copies, dropout)
        return tuple(dropout.seen)

    def _call(
        self,
        x: Tensor,
        parameters: Values,
        buffers: Values,
        dropout: DropoutInterceptor | None,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        has_masks = masks is not None

        def intercept(masks: Sequence[Tensor]) -> AbstractContextManager[Any]:
            if dropout is not None:
                dropout.masks = masks if has_masks else None
            return dropout or nullcontext()

        out: Tensor = run_vmapped(
            self._module, parameters, buffers, (x,), intercept, list(masks or [])
        )
        return out


def run_vmapped(
    module: nn.Module,
    parameters: Values,
    buffers: Values,
    inputs: tuple[Tensor, ...],
    intercept: Callable[[Any], AbstractContextManager[Any]],
    drawn: Any,
) -> Any:
    """Returns what a module computes of inputs [K, …] with the values of each trial.

    intercept: makes, of one trial's part of `drawn`, the context in which the module runs. Updates
    `buffers` as the module updates its own.
    """

    def call_one(
        parameters: Values, buffers: Values, inputs: tuple[Tensor, ...], drawn: Any
    ) -> tuple[Any, Values]:
        values = parameters | buffers
        with intercept(drawn):
            out = torch.func.functional_call(module, values, inputs)
        return out, {n: values[n] for n in buffers if values[n] is not buffers[n]}

    vmapped = torch.vmap(call_one, randomness="error")
    out, reassigned = vmapped(parameters, buffers, inputs, drawn)
    for name, value in reassigned.items():
        buffers[name].copy_(value.detach())
    return out


def with_cumulative_averages(module: nn.Module) -> nn.Module:
    """Replaces batch normalisation of `momentum=None`, whose statistics average over all batches.

    torch reads the number of batches from the device for it, which neither `torch.vmap` nor a
    CUDA graph allows; here it stays a tensor. Returns `module` itself if it has no such layer,
    otherwise a copy that shares its tensors.
    """
    if not any(_is_cumulative(part) for part in module.modules()):
        return module
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    copied = copy.deepcopy(module, shared)
    for part in copied.modules():
        if _is_cumulative(part):
            vars(part)["forward"] = partial(_cumulative_batch_norm, part)
    return copied


def _is_cumulative(part: nn.Module) -> TypeGuard[_BatchNorm]:
    return (
        isinstance(part, _BatchNorm)
        and type(part).forward is _BatchNorm.forward
        and part.momentum is None
        and part.num_batches_tracked is not None
    )


def _cumulative_batch_norm(part: _BatchNorm, x: Tensor) -> Tensor:
    if not part.training:
        return _BatchNorm.forward(part, x)
    mean, variance = part.get_buffer("running_mean"), part.get_buffer("running_var")
    batches = part.get_buffer("num_batches_tracked")
    part._check_input_dim(x)
    of_batch = torch.zeros_like(mean), torch.zeros_like(variance)
    out = functional.batch_norm(x, *of_batch, part.weight, part.bias, True, 1.0, part.eps)
    batches.add_(1)
    mean.add_((of_batch[0] - mean) / batches)
    variance.add_((of_batch[1] - variance) / batches)
    return out
