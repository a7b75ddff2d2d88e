"""Reads the examples that a user's data set has, and says where one of them does not fit.

A data set is a pair of arrays or tensors (inputs, targets), inputs alone, or any object with a
length whose items are pairs (a torch `Dataset`, a list).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import LazyInputs
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor

IN_MEMORY_BYTES: Final = 2 << 30
"""Inputs of a torch `Dataset` that take more are read one at a time during training."""
SPLITS: Final = ("train", "test")
PAIR: Final = "return a pair (input, target) for each example"
IMAGE_CHANNELS: Final = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class OwnExamples:
    """The examples of one split.

    inputs: [N, …] uint8 for images (channels first), int64 for token numbers, else floats.
    targets: [N, …]; None if there are none. checksum: the SHA-256 of all of them. tokens: one more
        than the largest token number; 0 if inputs are none.
    """

    inputs: Tensor | LazyInputs
    targets: Tensor | None
    checksum: str
    tokens: int

    @property
    def first(self) -> Tensor:
        return self.inputs[0]


def split_parts(given: Any) -> Mapping[str, Any]:
    """Returns the training examples, and the test examples if there are some, by their split.

    given: what a user's class or function returned. Raises InputError if it is neither.
    """
    import numpy as np

    if isinstance(given, Mapping):
        if "train" not in given or not set(given) <= set(SPLITS):
            keys = ", ".join(map(repr, given))
            hint = "a mapping has 'train', and 'test' if there are test examples"
            raise InputError(Problem(f"it returned a mapping with the keys {keys}", hint=hint))
        return given
    if isinstance(given, tuple) and len(given) == 2 and _is_numbers(given[1]):
        return {"train": tuple(map(np.asarray, given))}
    if isinstance(given, tuple) and len(given) == 2 and not any(map(_is_array, given)):
        return dict(zip(SPLITS, given, strict=True))
    return {"train": given}


def read_examples(given: Any) -> OwnExamples:
    """Reads all examples of a split. Raises InputError that names the first that does not fit."""
    from torch.utils.data import TensorDataset

    if isinstance(given, TensorDataset):
        given = given.tensors if len(given.tensors) > 1 else given.tensors[0]
    if _is_array(given):
        return _from_arrays(given, None)
    if isinstance(given, tuple) and any(map(_is_array, given)):
        if len(given) != 2:
            what = f"it has {len(given)} arrays"
            raise InputError(Problem(what, hint="return a pair (inputs, targets)"))
        return _from_arrays(*given)
    return _from_items(given, _length(given))


def _is_numbers(value: Any) -> bool:
    """Whether a value is a list of single numbers: targets, as no split has such examples."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def _is_array(value: Any) -> bool:
    import numpy as np
    import torch

    return isinstance(value, (torch.Tensor, np.ndarray)) or hasattr(value, "to_numpy")


def _from_arrays(inputs: Any, targets: Any) -> OwnExamples:
    whole = as_inputs(as_tensor(inputs, "inputs"))
    wanted = None if targets is None else as_tensor(targets, "targets")
    if wanted is not None and len(wanted) != len(whole):
        raise InputError(f"it has {len(whole)} inputs and {len(wanted)} targets")
    if not len(whole):
        raise InputError("it has no examples")
    _check_values(whole, 0)
    checksum = hashlib.sha256()
    for tensor in (whole, *(() if wanted is None else (wanted,))):
        _update(checksum, tensor)
    return OwnExamples(whole, wanted, checksum.hexdigest(), _tokens(whole))


def _length(given: Any) -> int:
    from torch.utils.data import DataLoader, IterableDataset

    kind = type(given).__name__
    if isinstance(given, DataLoader):
        hint = "return its `dataset`: the harness makes the batches"
        raise InputError(Problem("it returned a DataLoader", hint=hint))
    if isinstance(given, IterableDataset) or not hasattr(given, "__getitem__"):
        what = f"it returned a {kind}" if given is not None else "it returned nothing"
        ways = "arrays (inputs, targets), or a Dataset with a length and examples by number"
        hint = f"return {ways}; of what can only be iterated, list(…)"
        raise InputError(Problem(f"{what}, whose examples have no numbers", hint=hint))
    try:
        size = len(given)
    except (TypeError, NotImplementedError) as error:
        raise InputError(Problem(f"its {kind} has no length", hint="define __len__")) from error
    if not size:
        raise InputError("it has no examples")
    return size


def _from_items(given: Any, size: int) -> OwnExamples:
    """Reads every example once, and keeps the inputs if they fit in memory."""
    import torch

    first, wanted = _example(given, 0)
    again, _ = _example(given, 0)
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        hint = "put random changes into an augmentation"
        raise InputError(Problem("example 0 differs when it is read again", hint=hint))
    is_kept = first.nbytes * size <= IN_MEMORY_BYTES
    kept = first.new_empty((size, *first.shape)) if is_kept else None
    targets = None if wanted is None else wanted.new_empty((size, *wanted.shape))
    checksum, tokens = hashlib.sha256(), 0
    for number in range(size):
        inputs, target = _example(given, number)
        _check_alike("input", first, inputs, number)
        if kept is not None:
            kept[number] = inputs
        else:
            _check_values(inputs.unsqueeze(0), number)
            tokens = max(tokens, _tokens(inputs))
            _update(checksum, inputs)
        if (target is None) != (wanted is None):
            raise InputError(Problem(f"example {number} has no target", hint=PAIR))
        if target is not None and wanted is not None and targets is not None:
            if target.dtype != wanted.dtype and torch.is_floating_point(target):
                targets = targets.to(target.dtype)
                wanted = wanted.to(target.dtype)
            _check_alike("target", wanted, target, number)
            targets[number] = target
    if kept is not None:
        return _from_arrays(kept, targets)
    if targets is not None:
        _update(checksum, targets)
    return OwnExamples(LazyExamples(given), targets, checksum.hexdigest(), tokens)


@dataclass(frozen=True, slots=True)
class LazyExamples:
    """The inputs of a data set that is read one example at a time."""

    given: Any

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Tensor:
        inputs, _ = _example(self.given, index)
        return inputs


def _example(given: Any, number: int) -> tuple[Tensor, Tensor | None]:
    """Returns the input and the target of one example."""
    item = given[number]
    where = f"example {number}"
    if isinstance(item, Mapping):
        keys = ", ".join(map(repr, item))
        raise InputError(Problem(f"{where} is a mapping with the keys {keys}", hint=PAIR))
    if isinstance(item, (tuple, list)):
        if len(item) > 2:
            raise InputError(Problem(f"{where} has {len(item)} parts", hint=PAIR))
        inputs, target = (*item, None)[:2]
    else:
        inputs, target = item, None
    made = as_inputs(as_tensor(inputs, f"the input of {where}").unsqueeze(0))[0]
    return made, None if target is None else as_tensor(target, f"the target of {where}")


def as_tensor(value: Any, what: str) -> Tensor:
    """Returns numbers of any kind, or a PIL image, as a tensor on the CPU.

    what: they are, for messages. Raises InputError for what is no number.
    """
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
    else:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
        if array.dtype.kind not in "biuf":
            kind = "text" if array.dtype.kind in "US" else f"a {type(value).__name__}"
            hint = "numbers are wanted; the names of classes go into class_names"
            raise InputError(Problem(f"{what}: {kind} is no number", hint=hint))
        tensor = torch.from_numpy(array.copy())
    if tensor.is_sparse or tensor.is_complex():
        raise InputError(f"{what}: sparse and complex tensors are not supported")
    return tensor


def as_inputs(batch: Tensor) -> Tensor:
    """Returns inputs [N, …] in the dtypes and the layout that training takes.

    uint8 are images, [N, C, H, W], if they have rows and columns. Other whole numbers are token
    numbers, int64. Tables of float64 stay so, until they are prepared; other floats are float32.
    """
    import torch

    if batch.ndim < 2:
        batch = batch.unsqueeze(-1)
    if batch.dtype == torch.uint8 and batch.ndim in (3, 4):
        if batch.ndim == 3:
            return batch.unsqueeze(1)
        is_first = batch.shape[1] in IMAGE_CHANNELS
        is_last = batch.shape[3] in IMAGE_CHANNELS and not is_first
        return batch.permute(0, 3, 1, 2).contiguous() if is_last else batch
    if batch.dtype in (torch.uint8, torch.bool):
        return batch.float()
    if not batch.is_floating_point():
        return batch.long()
    return batch if batch.dtype == torch.float64 and batch.ndim == 2 else batch.float()


def _check_alike(part: str, first: Tensor, other: Tensor, number: int) -> None:
    if other.shape != first.shape:
        shapes = f"{list(other.shape)}, and example 0 {list(first.shape)}"
        hint = "all examples have one shape: pad, resize or cut them"
        raise InputError(
            Problem(f"the {part} of example {number} has the shape {shapes}", hint=hint)
        )
    if other.dtype != first.dtype and part == "input":
        types = f"{other.dtype}, and example 0 {first.dtype}"
        raise InputError(f"the {part} of example {number} is {types}")


def _check_values(inputs: Tensor, number: int) -> None:
    """Raises InputError for NaN, infinity and token numbers below 0.

    number: of the first example.
    """
    is_float = inputs.is_floating_point()
    fits = inputs.isfinite() if is_float else inputs >= 0
    if not fits.all():
        wrong = number + int((~fits.flatten(1).all(1)).nonzero()[0])
        what = "a value that is NaN or infinite" if is_float else "a whole number below 0"
        hint = "" if is_float else "whole numbers are token numbers; return floats for others"
        raise InputError(Problem(f"the input of example {wrong} has {what}", hint=hint))


def _tokens(inputs: Tensor) -> int:
    import torch

    return int(inputs.max()) + 1 if inputs.dtype == torch.int64 else 0


def _update(checksum: Any, tensor: Tensor) -> None:
    checksum.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
    checksum.update(tensor.contiguous().numpy().tobytes())
