"""Layers over a stack: inputs and outputs are [K, B, …], parameters [K, …].

A model of standard layers in sequence is translated layer by layer; any other module goes through
`torch.func`. Nothing is stacked on trust: `network.Network` compares the first outputs with the
model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from harness.errors import HarnessError
from harness.training.fused.sharing import Sharing

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


class Unstackable(HarnessError):
    """This model cannot be trained as a stack; the message says why, and its trials train one by
    one."""


class Masks(Protocol):
    """Where dropout's masks come from."""

    def next(self, layer: int, shape: Sequence[int], p: float) -> Tensor:
        """[K, *shape] of 0 and 1 / (1 − p). shape: of one trial's batch, the examples first."""
        ...


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass needs beside the inputs.

    parameters, buffers: stacked, by the model's names for them. masks: of dropout while training;
    None in evaluation. sharing: which inputs each row has.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    masks: Masks | None
    sharing: Sharing

    @property
    def training(self) -> bool:
        return self.masks is not None


Function = Callable[[Tensor, Pass], Tensor]
"""[K, B, …] → [K, B, …]."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    bare: whether it has nothing of each trial's own, so that it serves shared inputs [S, B, …] as
    well. shared: what takes shared inputs to [K, B, …], where that has a quicker way.
    """

    run: Function
    bare: bool = False
    shared: Function | None = None


def translate(model: nn.Module) -> tuple[list[Layer], set[str]]:
    """The stacked layers of `model`, and the names of the parameters that are stored transposed.

    Raises Unstackable.
    """
    _refuse_what_nothing_can_stack(model)
    names = {id(p): name for name, p in model.named_parameters()}
    layers: list[Layer] = []
    transposed: set[str] = set()
    for prefix, module in _in_sequence("", model):
        layers.append(_layer(module, prefix, names, len(layers)))
        if type(module) is nn.Linear:
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


def _layer(module: nn.Module, prefix: str, names: Mapping[int, str], index: int) -> Layer:
    """By exact type: a subclass may compute anything."""
    if _hooked(module):
        return _generic(module, prefix)
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
        return Layer(partial(_linear, weight, bias), shared=partial(_shared_linear, weight, bias))
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return Layer(partial(_conv2d, module, weight, bias))
    if type(module) is nn.BatchNorm1d or type(module) is nn.BatchNorm2d:
        return Layer(partial(_batch_norm, module, weight, bias, prefix))
    return _generic(module, prefix)


def _elementwise(module: nn.Module, x: Tensor, _run: Pass) -> Tensor:
    out: Tensor = module(x)
    return out


def _per_example(module: nn.Module, x: Tensor, _run: Pass) -> Tensor:
    out: Tensor = module(x.flatten(0, 1))
    return out.view(*x.shape[:2], *out.shape[1:])


def _flatten(module: nn.Flatten, x: Tensor, _run: Pass) -> Tensor:
    end = module.end_dim if module.end_dim < 0 else module.end_dim + 1
    return x.flatten(module.start_dim + 1, end)


def _linear(weight: str, bias: str, x: Tensor, run: Pass) -> Tensor:
    """The weight is held as [K, in, out], so that its gradient comes as it is stored."""
    w = run.parameters[weight]
    if x.dim() != 3:
        raise Unstackable(f"a linear layer over inputs of shape {list(x.shape[2:])}")
    if w.shape[2] == 1 and w.shape[1] <= NARROW:
        out = (x * w.transpose(1, 2)).sum(2, keepdim=True)
        return out + run.parameters[bias].unsqueeze(1) if bias else out
    if not bias:
        return torch.bmm(x, w)
    return torch.baddbmm(run.parameters[bias].unsqueeze(1), x, w)


def _shared_linear(weight: str, bias: str, x: Tensor, run: Pass) -> Tensor:
    """x: [S, B, in]."""
    if x.dim() != 3:
        return _linear(weight, bias, run.sharing.spread(x), run)
    return run.sharing.linear(x, run.parameters[weight], run.parameters[bias] if bias else None)


def _conv2d(module: nn.Conv2d, weight: str, bias: str, x: Tensor, run: Pass) -> Tensor:
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
    weight: str,
    bias: str,
    prefix: str,
    x: Tensor,
    run: Pass,
) -> Tensor:
    """A trial's channels are channels of their own: [B, K·C, …] is normalised by one call."""
    mean = run.buffers.get(f"{prefix}running_mean")
    variance = run.buffers.get(f"{prefix}running_var")
    factor = 0.0 if module.momentum is None else module.momentum
    if run.training and mean is not None:
        seen = run.buffers[f"{prefix}num_batches_tracked"]
        seen += 1
        if module.momentum is None:
            factor = 1.0 / float(seen[0])
    out = functional.batch_norm(
        _folded(x),
        None if mean is None else mean.flatten(),
        None if variance is None else variance.flatten(),
        run.parameters[weight].flatten() if weight else None,
        run.parameters[bias].flatten() if bias else None,
        run.training or mean is None,
        factor,
        module.eps,
    )
    return _unfolded(out, len(x))


def _dropout(module: nn.Dropout | nn.Dropout2d, index: int, x: Tensor, run: Pass) -> Tensor:
    if run.masks is None or module.p == 0:
        return x
    shape = x.shape[1:]
    if isinstance(module, nn.Dropout2d):
        shape = torch.Size((*shape[:2], *(1 for _ in shape[2:])))
    return x * run.masks.next(index, shape, module.p)


def _folded(x: Tensor) -> Tensor:
    """[K, B, C, …] → [B, K·C, …]"""
    return x.transpose(0, 1).flatten(1, 2)


def _unfolded(x: Tensor, k: int) -> Tensor:
    """[B, K·C, …] → [K, B, C, …]"""
    return x.view(len(x), k, -1, *x.shape[2:]).transpose(0, 1)


def _generic(module: nn.Module, prefix: str) -> Layer:
    """Any module that draws nothing at random and keeps no statistics, through `torch.func`."""
    for name, part in module.named_modules():
        where = f"{prefix}{name}".rstrip(".") or "the model"
        if isinstance(part, _DropoutNd):
            raise Unstackable(f"{where}: dropout inside a module that is no sequence")
        if isinstance(part, _BatchNorm) or any(True for _ in part.buffers(recurse=False)):
            raise Unstackable(f"{where}: a {type(part).__name__} keeps state of its own")
        if isinstance(part, nn.modules.rnn.RNNBase):
            raise Unstackable(f"{where}: torch cannot vectorise a {type(part).__name__}")
    names = tuple(name for name, _ in module.named_parameters())
    return Layer(partial(_vectorised, module, prefix, names))


def _vectorised(
    module: nn.Module, prefix: str, names: Sequence[str], x: Tensor, run: Pass
) -> Tensor:
    own = {name: run.parameters[prefix + name] for name in names}

    def call(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(module, parameters, (inputs,))
        return out

    module.train(run.training)
    out: Tensor = torch.vmap(call, randomness="error")(own, x)
    return out
