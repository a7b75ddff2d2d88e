"""Any module as a layer of a stack: one pass of it over its stacked values, by `torch.vmap`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from harness.training.stacked.modules.dropout import DropoutInterceptor, MaskSpec
from harness.training.stacked.modules.forward_pass import ForwardPass, Layer, Unstackable

Values = dict[str, Tensor]


def vmap_layer(module: nn.Module, prefix: str, index: int) -> Layer:
    """`module` as it is, with everything inside it: each trial has its own parameters, buffers and
    masks of dropout.

    prefix: of its names in the model. index: its place among the layers. Raises Unstackable.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.rnn.RNNBase):
            where = f"{prefix}{name}".rstrip(".") or "the model"
            raise Unstackable(f"{where}: torch cannot vectorise a {type(part).__name__}")
    return Layer(_Vectorised(module, prefix, index).forward, rehearsed=True)


class _Vectorised:
    """module: kept for its structure and its code; the values that it holds are not used."""

    def __init__(self, module: nn.Module, prefix: str, index: int) -> None:
        self._module = with_cumulative_averages(module)
        self._parameters = {name: prefix + name for name, _ in module.named_parameters()}
        self._buffers = {name: prefix + name for name, _ in module.named_buffers()}
        self._index = index
        self._wanted: dict[torch.Size, tuple[MaskSpec, ...]] = {}

    def forward(self, x: Tensor, run: ForwardPass) -> Tensor:
        """[K, B, …] → [K, B, …]; what the module does to its buffers is done to the stack's."""
        self._module.train(run.training)
        parameters = {name: run.parameters[whole] for name, whole in self._parameters.items()}
        buffers = {name: run.buffers[whole] for name, whole in self._buffers.items()}
        if run.masks is None:
            # In evaluation dropout is not caught: one that draws nevertheless is refused by torch.
            return self._call(
                x, parameters, buffers, DropoutInterceptor() if run.training else None
            )
        wanted = self._wanted.get(x.shape[1:])
        if wanted is None:
            wanted = self._wanted[x.shape[1:]] = self._rehearsed(x, parameters, buffers)
        masks = [
            run.masks.next(f"{self._index}.{use}", drawn.shape, drawn.p)
            for use, drawn in enumerate(wanted)
        ]
        return self._call(x, parameters, buffers, DropoutInterceptor(wanted), masks)

    def _rehearsed(self, x: Tensor, parameters: Values, buffers: Values) -> tuple[MaskSpec, ...]:
        """The masks that inputs of this shape want: found by a pass of which nothing is kept."""
        dropouts = DropoutInterceptor()
        with torch.no_grad():
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            self._call(x, parameters, copies, dropouts)
        return tuple(dropouts.seen)

    def _call(
        self,
        x: Tensor,
        parameters: Values,
        buffers: Values,
        dropouts: DropoutInterceptor | None,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        def one(
            parameters: Values, buffers: Values, x: Tensor, masks: Sequence[Tensor]
        ) -> tuple[Tensor, Values]:
            if dropouts is not None:
                dropouts.masks = masks if given else None
            own = parameters | buffers
            with dropouts or nullcontext():
                out: Tensor = torch.func.functional_call(self._module, own, (x,))
            return out, {name: own[name] for name in buffers if own[name] is not buffers[name]}

        given = masks is not None
        out, replaced = torch.vmap(one, randomness="error")(parameters, buffers, x, masks or [])
        _put(replaced, buffers)
        return out


def _put(replaced: Mapping[str, Tensor], buffers: Values) -> None:
    """Buffers that were assigned anew in place of what they were."""
    for name, value in replaced.items():
        buffers[name].copy_(value.detach())


def with_cumulative_averages(module: nn.Module) -> nn.Module:
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
