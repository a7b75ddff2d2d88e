"""What a training step draws from its generator, in a stack: drawn before, trial by trial.

Under `torch.vmap` nothing may be drawn. `DrawInterceptor` catches the calls of torch's random
functions that take the step's generator, and returns what was drawn before from the generators of
the trials: by the same calls, so that each trial gets the numbers that it gets alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harness.training.stacked.modules.forward_pass import Unstackable

DRAWN: Final = (torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal)
"""Functions whose results do not depend on tensors, if none is among their arguments."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One call of a random function, without its generator."""

    function: Any
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    def from_each(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Returns what each generator draws, [S, …]."""
        drawn = [
            self.function(*self.arguments, **self.options, generator=one) for one in generators
        ]
        return torch.stack(drawn)


class DrawInterceptor(TorchFunctionMode):
    """Makes calls that take `generator` return the next of `drawn`; with `drawn` None, they draw.

    seen: the calls, in their order.
    """

    def __init__(self, generator: torch.Generator, expected: Sequence[Draw] = ()) -> None:
        super().__init__()
        self._generator = generator
        self._expected = expected
        self.drawn: Sequence[Tensor] | None = None
        self.seen: list[Draw] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if options.get("generator") is not self._generator:
            return func(*args, **options)
        del options["generator"]
        given = (*args, *options.values())
        if func not in DRAWN or any(isinstance(value, Tensor) for value in given):
            name = getattr(func, "__name__", "a function")
            raise Unstackable(
                f"its training step draws by {name}, which depends on tensors; torch.rand, randn, "
                "randint, randperm and normal of a size can be drawn in a stack"
            )
        index, draw = len(self.seen), Draw(func, args, options)
        self.seen.append(draw)
        if self.drawn is None:
            return func(*args, **(kwargs or {}))
        if list(self._expected[index : index + 1]) != [draw]:
            raise Unstackable(
                "what its training step draws changes from one batch to the next, and a stack "
                "draws beforehand"
            )
        return self.drawn[index]
