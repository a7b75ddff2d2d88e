"""What a module keeps between two batches outside of its buffers, where a stack does not look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from torch import Tensor, nn

from harness.training.stacked.passes import Unstackable

_OF_TORCH: Final = frozenset({"training", *vars(nn.Module())})


@contextmanager
def stateless(model: nn.Module) -> Iterator[None]:
    """Raises Unstackable where what runs inside changes a plain attribute of the model: a number, a
    text or a tensor that is no buffer. Trials of a stack would share it."""
    before = _attributes(model)
    yield
    after = _attributes(model)
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one is not other and (isinstance(other, Tensor) or one != other):
            raise Unstackable(
                f"its forward pass changes {name}, and what a model keeps between batches a stack "
                "finds in buffers alone"
            )


def _attributes(model: nn.Module) -> dict[str, object]:
    """Plain attributes by their names in the model ("block.calls")."""
    return {
        f"{prefix}.{name}".lstrip("."): value
        for prefix, part in model.named_modules()
        for name, value in vars(part).items()
        if name not in _OF_TORCH and isinstance(value, Tensor | int | float | str)
    }
