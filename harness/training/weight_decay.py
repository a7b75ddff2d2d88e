"""Parameters without weight decay, by their kind: biases, normalisations, embeddings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import compress
from typing import Final

import torch
from torch import Tensor, nn

from harness.core.errors import InputError

NORMS: Final = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.CrossMapLRN2d,
)
EMBEDDINGS: Final = (nn.Embedding, nn.EmbeddingBag)
NORM_CLASS: Final = re.compile(r"Norm([123]d)?$", re.IGNORECASE)
"""Names of classes of one's own that normalise: RMSNorm, LayerNorm2d."""


def undecayed(model: nn.Module, kinds: Collection[str]) -> frozenset[str]:
    """Returns the names of the parameters of these kinds.

    bias: named "bias", "bias_…" or "…_bias", as torch's modules name them. norm: of a module whose
    class is one of torch's normalisations, derives from one, or has a name that ends in "Norm".
    embedding: of an `nn.Embedding` or an `nn.EmbeddingBag`. A parameter that two modules share
    has the kinds of both.
    """
    found = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not _kinds(module, name).isdisjoint(kinds)
    }
    return frozenset(name for name, parameter in model.named_parameters() if parameter in found)


def _kinds(module: nn.Module, name: str) -> set[str]:
    kinds = set()
    if name == "bias" or name.startswith("bias_") or name.endswith("_bias"):
        kinds.add("bias")
    if isinstance(module, NORMS) or NORM_CLASS.search(type(module).__name__):
        kinds.add("norm")
    if isinstance(module, EMBEDDINGS):
        kinds.add("embedding")
    return kinds


def exclude_from_decay(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], name: str
) -> None:
    """Moves parameters into groups of their own, which differ from the others in a weight decay
    of 0 alone. name: the optimizer's, for messages.

    Raises InputError if the optimizer's groups have no weight decay.
    """
    chosen = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        if "weight_decay" not in group:
            raise InputError(
                f"optimizer {name}: no_decay has no effect, as its parameter groups have no "
                "weight_decay"
            )
        names = group.get("param_names")
        members = list(
            group["params"] if names is None else zip(names, group["params"], strict=True)
        )
        is_chosen = [id(parameter) in chosen for parameter in group["params"]]
        if all(is_chosen):
            group["weight_decay"] = 0.0
        elif any(is_chosen):
            shared = {k: v for k, v in group.items() if k not in ("params", "param_names")}
            apart = list(compress(members, is_chosen))
            kept = [not is_apart for is_apart in is_chosen]
            group["params"] = list(compress(group["params"], kept))
            if names is not None:
                group["param_names"] = list(compress(names, kept))
            optimizer.add_param_group({**shared, "params": apart, "weight_decay": 0.0})
