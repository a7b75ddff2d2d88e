"""The state of any optimizer in a checkpoint, which holds tensors and primitives only.

torch's own optimizers need nothing but `state_dict`. Others keep counters in attributes, tensors in
other dtypes than their parameters', deques, and options that are no primitives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

import torch
from torch import Tensor

PLAIN: Final = (bool, int, float, str, type(None))
DEQUE: Final = "harness.deque"
"""The key under which the items and the length of a deque are stored."""


class Unstorable(Exception):
    """A value that a checkpoint cannot hold; the message is the name of its class."""


def stored_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns what `load_state` needs; not copies.

    Options that no checkpoint can hold, as functions, are left out: a trial determines them.
    """
    told = optimizer.state_dict()
    try:
        others = {k: _encoded(v) for k, v in told.items() if k != "param_groups"}
    except Unstorable as error:
        return {"optimizer": None, "unstorable": str(error)}
    groups = [dict(_storable(group)) for group in told["param_groups"]]
    state = {"optimizer": {**others, "param_groups": groups}}
    attributes = dict(_attributes(optimizer))
    return state | ({"optimizer_attributes": attributes} if attributes else {})


def load_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], device: torch.device
) -> None:
    """Loads a state into an optimizer as it was built. Raises ValueError if it was not storable."""
    if "unstorable" in state:
        kind = state["unstorable"]
        raise ValueError(f"the optimizer's state has a {kind}, which no checkpoint can hold")
    told = {k: _decoded(v) for k, v in state["optimizer"].items()}
    groups = zip(optimizer.param_groups, told["param_groups"], strict=True)
    told["param_groups"] = [{**built, **saved} for built, saved in groups]
    optimizer.load_state_dict(told)
    _restore_dtypes(optimizer, told)
    for name, value in state.get("optimizer_attributes", {}).items():
        setattr(optimizer, name, value.to(device) if isinstance(value, Tensor) else value)


def _attributes(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Yields the numbers, texts and tensors that an optimizer has as attributes."""
    for name, value in vars(optimizer).items():
        is_plain = isinstance(value, PLAIN) and not isinstance(value, Enum)
        if is_plain or (isinstance(value, Tensor) and not value.requires_grad):
            yield name, value


def _storable(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        try:
            yield name, _encoded(value)
        except Unstorable:
            continue


def _encoded(value: Any) -> Any:
    """Returns a value as tensors and primitives. Raises Unstorable."""
    if isinstance(value, Tensor) or type(value) in PLAIN:
        return value
    if isinstance(value, dict):
        return {_encoded(key): _encoded(item) for key, item in value.items()}
    if isinstance(value, deque):
        return {DEQUE: [_encoded(item) for item in value], "maxlen": value.maxlen}
    if type(value) in (list, tuple):
        return type(value)(map(_encoded, value))
    raise Unstorable(type(value).__name__)


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if DEQUE in value:
            return deque(map(_decoded, value[DEQUE]), value["maxlen"])
        return {key: _decoded(item) for key, item in value.items()}
    return type(value)(map(_decoded, value)) if type(value) in (list, tuple) else value


def _restore_dtypes(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Gives the loaded state the dtypes that were saved: torch loads floating-point state in the
    dtype of its parameter, and would then round and count otherwise than before."""
    for group, saved_group in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, key in zip(group["params"], saved_group["params"], strict=True):
            if key in saved["state"]:
                loaded = optimizer.state[parameter]
                optimizer.state[parameter] = _as_saved(loaded, saved["state"][key])


def _as_saved(loaded: Any, saved: Any) -> Any:
    if isinstance(saved, Tensor):
        return saved.to(loaded.device) if loaded.dtype != saved.dtype else loaded
    if isinstance(saved, dict):
        return {key: _as_saved(loaded[key], value) for key, value in saved.items()}
    if isinstance(saved, deque):
        return deque(map(_as_saved, loaded, saved), saved.maxlen)
    if type(saved) in (list, tuple):
        return type(saved)(map(_as_saved, loaded, saved))
    return loaded
