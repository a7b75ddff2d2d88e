"""Layers over a stack: inputs and outputs are [K, B, …], parameters [K, …].

A model of standard layers in sequence is translated layer by layer; any other module goes through
`vectorised`. Nothing is stacked on trust: `network.Network` compares the first outputs with the
model's own.
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
"""One number in, one number out: the same whatever the shape."""
PER_EXAMPLE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""Without parameters, and each example by itself."""


NARROW = 64
"""Inputs of one output up to which products and their sum take less time than matrix products."""


def translate(model: nn.Module) -> tuple[list[Layer], set[str]]:
    """The stacked layers of `model`, and the names of the parameters that are stored transposed.

    Raises Unstackable.
    """
    _refuse_what_nothing_can_stack(model)
    names = {id(p): name for name, p in model.named_parameters()}
    layers: list[Layer] = []
    transposed: set[str] = set()
    for prefix, module in _in_sequence("", model):
        is_first = all(layer.bare for layer in layers)
        made = _layer(module, prefix, names, len(layers), is_first)
        layers.append(made)
        if type(module) is nn.Linear and not made.takes_shared:
            transposed.add(names[id(module.weight)])
    return layers, transposed


def _in_sequence(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that run one after another, each with its name's prefix ("0.2.")."""
    if type(module) is nn.Sequential and not _hooked(module):
        for name, child in module._modules.items():
            if child is not None:
                yield from _in_sequence(f"{prefix}{name}.", child)
    else:
        yield prefix, module


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _refuse_what_nothing_can_stack(model: nn.Module) -> None:
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise Unstackable(f"{frozen[0]} is frozen, and a stack trains every parameter")
    every = dict(model.named_parameters(remove_duplicate=False))
    if len({id(p) for p in every.values()}) < len(every):
        raise Unstackable("it uses one parameter in two places")
    kinds = {p.dtype for p in every.values()}
    if len(kinds) != 1:
        raise Unstackable("its parameters are of no or of several types of number")


def _layer(
    module: nn.Module, prefix: str, names: Mapping[int, str], index: int, is_first: bool
) -> Layer:
    """By exact type: a subclass may compute anything. is_first: of those that are not bare."""
    if _hooked(module):
        return vmap_layer(module, prefix, index)
    if type(module) in ELEMENTWISE:
        return Layer(partial(_elementwise, module), bare=True)
    if type(module) in PER_EXAMPLE:
        return Layer(partial(_per_example, module), bare=True)
    if type(module) is nn.Flatten and module.start_dim >= 1:
        return Layer(partial(_flatten, module), bare=True)
    if type(module) is nn.Dropout or type(module) is nn.Dropout2d:
        return Layer(partial(_dropout, module, index))
    weight = names.get(id(getattr(module, "weight", None)), "")
    bias = names.get(id(getattr(module, "bias", None)), "")
    if type(module) is nn.Linear:
        if is_first and module.in_features >= MIN_SHARED_FEATURES:
            return Layer(partial(_shared_linear, weight, bias), takes_shared=True)
        return Layer(partial(_linear, weight, bias))
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return Layer(partial(_conv2d, module, weight, bias))
    if type(module) is nn.BatchNorm1d or type(module) is nn.BatchNorm2d:
        if module.momentum is None:
            return vmap_layer(module, prefix, index)
        own = partial(_batch_norm, module, module.momentum, weight, bias, prefix)
        return Layer(own, rehearsed=True)
    return vmap_layer(module, prefix, index)


def _elementwise(module: nn.Module, x: Tensor, _run: ForwardPass) -> Tensor:
    out: Tensor = module(x)
    return out


def _per_example(module: nn.Module, x: Tensor, _run: ForwardPass) -> Tensor:
    out: Tensor = module(x.flatten(0, 1))
    return out.view(*x.shape[:2], *out.shape[1:])


def _flatten(module: nn.Flatten, x: Tensor, _run: ForwardPass) -> Tensor:
    end = module.end_dim if module.end_dim < 0 else module.end_dim + 1
    return x.flatten(module.start_dim + 1, end)


def _linear(weight: str, bias: str, x: Tensor, run: ForwardPass) -> Tensor:
    """The weight is held as [K, in, out], so that its gradient comes as it is stored."""
    _require_vectors(x)
    w = run.parameters[weight]
    if w.shape[2] == 1 and w.shape[1] <= NARROW and not torch.is_autocast_enabled(x.device.type):
        out = (x * w.transpose(1, 2)).sum(2, keepdim=True)
        return out + run.parameters[bias].unsqueeze(1) if bias else out
    if not bias:
        return torch.bmm(x, w)
    return torch.baddbmm(run.parameters[bias].unsqueeze(1), x, w)


def _shared_linear(weight: str, bias: str, x: Tensor, run: ForwardPass) -> Tensor:
    """x: [S, B, in]. The weight is held as [K, out, in], so that those of one input lie in longer
    pieces side by side."""
    _require_vectors(x)
    return run.sharing.linear(x, run.parameters[weight], run.parameters[bias] if bias else None)


def _require_vectors(x: Tensor) -> None:
    if x.dim() != 3:
        raise Unstackable(f"a linear layer over inputs of shape {list(x.shape[2:])}")


def _conv2d(module: nn.Conv2d, weight: str, bias: str, x: Tensor, run: ForwardPass) -> Tensor:
    """On a GPU one grouped convolution; on a CPU, whose grouped kernels are slow, one a trial."""
    w = run.parameters[weight]
    b = run.parameters[bias] if bias else None
    if x.device.type == "cpu":
        return torch.stack(
            [
                functional.conv2d(
                    x[k],
                    w[k],
                    None if b is None else b[k],
                    module.stride,
                    module.padding,
                    module.dilation,
                    module.groups,
                )
                for k in range(len(x))
            ]
        )
    out = functional.conv2d(
        _folded(x),
        w.flatten(0, 1),
        None if b is None else b.flatten(),
        module.stride,
        module.padding,
        module.dilation,
        module.groups * len(x),
    )
    return _unfolded(out, len(x))


def _batch_norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d,
    momentum: float,
    weight: str,
    bias: str,
    prefix: str,
    x: Tensor,
    run: ForwardPass,
) -> Tensor:
    """A trial's channels are channels of their own: [B, K·C, …] is normalised by one call."""
    mean = run.buffers.get(f"{prefix}running_mean")
    variance = run.buffers.get(f"{prefix}running_var")
    if run.training and mean is not None:
        run.buffers[f"{prefix}num_batches_tracked"].add_(1)
    out = functional.batch_norm(
        _folded(x),
        None if mean is None else mean.flatten(),
        None if variance is None else variance.flatten(),
        run.parameters[weight].flatten() if weight else None,
        run.parameters[bias].flatten() if bias else None,
        run.training or mean is None,
        momentum,
        module.eps,
    )
    return _unfolded(out, len(x))


def _dropout(module: nn.Dropout | nn.Dropout2d, index: int, x: Tensor, run: ForwardPass) -> Tensor:
    if run.masks is None or module.p == 0:
        return x
    shape = x.shape[1:]
    if isinstance(module, nn.Dropout2d):
        shape = torch.Size((*shape[:2], *(1 for _ in shape[2:])))
    return x * run.masks.next(index, shape, module.p).to(x.dtype)


def _folded(x: Tensor) -> Tensor:
    """[K, B, C, …] → [B, K·C, …]"""
    return x.transpose(0, 1).flatten(1, 2)


def _unfolded(x: Tensor, k: int) -> Tensor:
    """[B, K·C, …] → [K, B, C, …]"""
    return x.view(len(x), k, -1, *x.shape[2:]).transpose(0, 1)
