"""The contract of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import DataInfo, Examples, Task
from harness.diagnostics.contract.case import Case, Check, require

if TYPE_CHECKING:
    from torch import Tensor

MOST_READ: Final = 64
"""Examples that are read one by one, of inputs that do not fit in memory."""


def describes_what_it_loads(case: Case) -> Iterator[str]:
    """Its shapes and types are those that it describes, and it has examples."""
    import torch

    dataset, options = case.choice.component, case.choice.options
    info, raw = dataset.info(options, case.data_root), _load(case)
    require(raw.info == info, f"it describes {info}, and loads {raw.info}")
    for name, examples in (("train", raw.train), ("test", raw.test)):
        if examples is None:
            continue
        require(len(examples), f"{name} has no examples")
        count = len(examples.inputs)
        require(count == len(examples), f"{name} has {count} inputs and {len(examples)} targets")
        inputs = _inputs(examples)
        ready = raw.prepare(inputs) if raw.prepare else inputs.float()
        found, wanted = list(ready.shape[1:]), list(info.shape)
        require(found == wanted, f"an input of {name} has the shape {found}; described: {wanted}")
        stored = [torch.uint8, torch.float32] if info.is_image else [torch.float32, torch.float64]
        stored = [torch.int64] if info.tokens else stored
        require(
            inputs.dtype in stored,
            f"the inputs of {name} are {inputs.dtype}; expected {' or '.join(map(str, stored))}",
        )
    require(raw.test is not None or raw.split is not None, "it has no test examples, nor a split")
    yield from ()


def has_targets_of_its_task(case: Case) -> Iterator[str]:
    """Its targets are those of its task: numbers of its classes, or float32 values."""
    raw = _load(case)
    for name, examples in (("train", raw.train), ("test", raw.test)):
        if examples is not None and raw.info.task is not Task.AUTOENCODING:
            _require_targets(raw.info, examples.targets, name)
    if raw.info.task.is_classification:
        present = set(raw.train.targets.tolist())
        absent = [n for i, n in enumerate(raw.info.class_names) if i not in present]
        if absent:
            yield f"no training example has the class {', '.join(absent[:5])}"


def is_the_same_again(case: Case) -> Iterator[str]:
    """It loads the same examples again, with the same checksum."""
    import torch

    dataset, options = case.choice.component, case.choice.options
    checksum = dataset.fingerprint(options, case.data_root)
    require(checksum, "it has no checksum: other data would be taken for these")
    first, again = _load(case), _load(case)
    rule = "load the same examples in the same order: use a fixed seed for whatever is random"
    for one, other in ((first.train, again.train), (first.test, again.test)):
        if one is None or other is None:
            continue
        require(torch.equal(one.targets, other.targets), f"other targets the second time: {rule}")
        same = torch.equal(_inputs(one).nan_to_num(), _inputs(other).nan_to_num())
        require(same, f"other inputs the second time: {rule}")
    require(
        dataset.fingerprint(options, case.data_root) == checksum,
        "its checksum differs the second time",
    )
    yield from ()


def _require_targets(info: DataInfo, targets: Tensor, name: str) -> None:
    import torch

    wanted = torch.int64 if info.task.is_classification else torch.float32
    require(
        targets.dtype == wanted, f"the targets of {name} are {targets.dtype}; expected {wanted}"
    )
    found, shape = list(targets.shape[1:]), list(info.target_shape)
    require(
        found == shape, f"a target of {name} has the shape {found}; a {info.task} one has {shape}"
    )
    if info.task.is_classification:
        low, high = int(targets.min()), int(targets.max())
        require(
            low >= 0 and high < info.classes,
            f"the classes of {name} are {low} … {high}; with {info.classes} class names they are "
            f"0 … {info.classes - 1}",
        )
        is_binary = info.task is Task.BINARY
        require(
            is_binary == (info.classes == 2) or info.task is Task.ORDINAL,
            f"its task is {info.task}, with {info.classes} classes",
        )
    else:
        require(targets.isfinite().all(), f"some targets of {name} are not finite")


def _load(case: Case) -> Any:
    return case.choice.component.load(case.choice.options, case.data_root)


def _inputs(examples: Examples) -> Tensor:
    import torch

    if isinstance(examples.inputs, torch.Tensor):
        return examples.inputs
    count = min(len(examples.inputs), MOST_READ)
    return torch.stack([examples.inputs[i] for i in range(count)])


CHECKS: Final[tuple[Check, ...]] = (
    describes_what_it_loads,
    has_targets_of_its_task,
    is_the_same_again,
)
