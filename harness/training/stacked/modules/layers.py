"""The layers of a stack, translated from those of a model.

Standard layers in sequence are translated one by one; `vmap` handles any other module. No
translation is trusted: `compatibility.verify` compares the outputs with those of the models before
a stack trains. Inputs and outputs are [K, B, …], parameters [K, …].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.stacked.modules.forward_pass import (
    MIN_SHARED_FEATURES,
    ForwardPass,
    Layer,
    Unstackable,
)
from harness.training.stacked.modules.vmap import vmap_layer

ELEMENTWISE = (
    nn.ReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.Softplus,
    nn.Hardtanh,
    nn.ReLU6,
    nn.Identity,
)
"""Modules that map each number by itself, whatever the shape."""
PER_EXAMPLE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""Modules without parameters that map each example by itself."""

NARROW = 64
"""Inputs of a linear layer with one output up to which multiplying and summing takes less time than
a matrix product."""


def translate(model: nn.Module) -> tuple[list[Layer], set[str]]:
    """Returns a model's stacked layers, and the names of parameters that are stored transposed.

    Raises Unstackable.
    """
    _check_parameters(model)
    names = {id(p): name for name, p in model.named_parameters()}
    layers: list[Layer] = []
    transposed: set[str] = set()
    for prefix, module in _in_sequence("", model):
        is_first = all(layer.is_stateless for layer in layers)
        layer = _layer(module, prefix, names, len(layers), is_first)
        layers.append(layer)
        if type(module) is nn.Linear and not layer.accepts_shared:
            transposed.add(names[id(module.weight)])
    return layers, transposed


def _check_parameters(model: nn.Module) -> None:
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise Unstackable(f"{frozen[0]} is frozen, and a stack trains every parameter")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if len({id(p) for p in parameters.values()}) < len(parameters):
        raise Unstackable("it uses one parameter in two places, and a stack trains each by itself")
    if len({p.dtype for p in parameters.values()}) != 1:
        raise Unstackable("a stack needs parameters, all of one dtype")


def _in_sequence(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules that run one after another, with the prefix of their names ("0.2.")."""
    if type(module) is nn.Sequential and not _has_hooks(module):
        for name, child in module._modules.items():
            if child is not None:
                yield from _in_sequence(f"{prefix}{name}.", child)
    else:
        yield prefix, module


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _layer(
    module: nn.Module, prefix: str, names: Mapping[int, str], index: int, is_first: bool
) -> Layer:
    """Translates one module, by its exact type: a subclass may compute anything.

    is_first: whether all layers before it are stateless.
    """
    if _has_hooks(module):
        return vmap_layer(module, prefix, index)
    if type(module) in ELEMENTWISE:
        return Layer(lambda x, _context: module(x), is_stateless=True)
    if type(module) in PER_EXAMPLE:
        return Layer(partial(_per_example, module), is_stateless=True)
    if type(module) is nn.Flatten and module.start_dim >= 1:
        return Layer(partial(_flatten, module), is_stateless=True)
    if type(module) is nn.Dropout or type(module) is nn.Dropout2d:
        return Layer(partial(_dropout, module, index))
    weight = names.get(id(getattr(module, "weight", None)), "")
    bias = names.get(id(getattr(module, "bias", None)), "")
    if type(module) is nn.Linear:
        if is_first and module.in_features >= MIN_SHARED_FEATURES:
            return Layer(partial(_shared_linear, weight, bias), accepts_shared=True)
        return Layer(partial(_linear, weight, bias))
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return Layer(partial(_conv2d, module, weight, bias))
    if type(module) is nn.BatchNorm1d or type(module) is nn.BatchNorm2d:
        if module.momentum is None:
            return vmap_layer(module, prefix, index)
        run = partial(_batch_norm, module, module.momentum, weight, bias, prefix)
        return Layer(run, is_verified_in_training=True)
    return vmap_layer(module, prefix, index)


def _per_example(module: nn.Module, x: Tensor, _context: ForwardPass) -> Tensor:
    out: Tensor = module(x.flatten(0, 1))
    return out.view(*x.shape[:2], *out.shape[1:])


def _flatten(module: nn.Flatten, x: Tensor, _context: ForwardPass) -> Tensor:
    end = module.end_dim if module.end_dim < 0 else module.end_dim + 1
    return x.flatten(module.start_dim + 1, end)


def _linear(weight: str, bias: str, x: Tensor, context: ForwardPass) -> Tensor:
    """The weight is stored as [K, in, out], the layout in which autograd returns its gradient."""
    _check_vectors(x)
    w = context.parameters[weight]
    if w.shape[2] == 1 and w.shape[1] <= NARROW and not torch.is_autocast_enabled(x.device.type):
        out = (x * w.transpose(1, 2)).sum(2, keepdim=True)
        return out + context.parameters[bias].unsqueeze(1) if bias else out
    if not bias:
        return torch.bmm(x, w)
    return torch.baddbmm(context.parameters[bias].unsqueeze(1), x, w)


def _shared_linear(weight: str, bias: str, x: Tensor, context: ForwardPass) -> Tensor:
    """x: [S, B, in]. The weight is stored as [K, out, in], so that joining trials copies long
    contiguous pieces."""
    _check_vectors(x)
    parameters = context.parameters
    return context.shared.linear(x, parameters[weight], parameters[bias] if bias else None)


def _check_vectors(x: Tensor) -> None:
    if x.dim() != 3:
        raise Unstackable(f"a linear layer has inputs of shape {list(x.shape[2:])}, not vectors")


def _conv2d(module: nn.Conv2d, weight: str, bias: str, x: Tensor, context: ForwardPass) -> Tensor:
    """Runs one grouped convolution on a GPU; a CPU's grouped kernels are slow: one per trial."""
    w = context.parameters[weight]
    b = context.parameters[bias] if bias else None
    convolve = partial(
        functional.conv2d, stride=module.stride, padding=module.padding, dilation=module.dilation
    )
    if x.device.type == "cpu":
        biases = [None] * len(x) if b is None else b
        groups = module.groups
        return torch.stack([convolve(x[k], w[k], biases[k], groups=groups) for k in range(len(x))])
    flat = None if b is None else b.flatten()
    out = convolve(_fold(x), w.flatten(0, 1), flat, groups=module.groups * len(x))
    return _unfold(out, len(x))


def _batch_norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d,
    momentum: float,
    weight: str,
    bias: str,
    prefix: str,
    x: Tensor,
    context: ForwardPass,
) -> Tensor:
    """Normalises [B, K·C, …] by one call: each trial's channels are separate channels."""
    mean = context.buffers.get(f"{prefix}running_mean")
    variance = context.buffers.get(f"{prefix}running_var")
    if context.training and mean is not None:
        context.buffers[f"{prefix}num_batches_tracked"].add_(1)
    out = functional.batch_norm(
        _fold(x),
        None if mean is None else mean.flatten(),
        None if variance is None else variance.flatten(),
        context.parameters[weight].flatten() if weight else None,
        context.parameters[bias].flatten() if bias else None,
        context.training or mean is None,
        momentum,
        module.eps,
    )
    return _unfold(out, len(x))


def _dropout(
    module: nn.Dropout | nn.Dropout2d, index: int, x: Tensor, context: ForwardPass
) -> Tensor:
    if context.masks is None or module.p == 0:
        return x
    shape = x.shape[1:]
    if isinstance(module, nn.Dropout2d):
        shape = torch.Size((*shape[:2], *(1 for _ in shape[2:])))
    return x * context.masks.next(index, shape, module.p).to(x.dtype)


def _fold(x: Tensor) -> Tensor:
    """[K, B, C, …] → [B, K·C, …]"""
    return x.transpose(0, 1).flatten(1, 2)


def _unfold(x: Tensor, k: int) -> Tensor:
    """[B, K·C, …] → [K, B, C, …]"""
    return x.view(len(x), k, -1, *x.shape[2:]).transpose(0, 1)
