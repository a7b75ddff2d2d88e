"""Decorators that make components of a user's classes and functions, under names of their own.

    import harness

    @harness.model
    class Net(nn.Module):
        def __init__(self, data: harness.DataInfo, width: int = 64): ...

An experiment file that lists the file after `code:` then names the component: `model: {name: net,
width: 128}`. The object itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from harness.components.code.source import MARK, Declared
from harness.core.text import snake_case

Target = TypeVar("Target", bound=Callable[..., Any])


class Decorator:
    """Marks classes or functions as components of one kind: `@harness.model`, or with arguments,
    `@harness.metric(name="hits", direction="max")`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @overload
    def __call__(self, target: Target, /) -> Target: ...

    @overload
    def __call__(
        self, target: None = None, /, *, name: str = "", **details: Any
    ) -> Callable[[Target], Target]: ...

    def __call__(self, target: Any = None, /, *, name: str = "", **details: Any) -> Any:
        """name: what an experiment file writes; by default the object's own, in lower case with
        underscores. details: fields of the component's record, as a metric's `direction`."""

        def mark(marked: Target) -> Target:
            written = name or snake_case(marked.__name__)
            setattr(marked, MARK, Declared(self.kind, written, tuple(details.items())))
            return marked

        return mark if target is None else mark(target)


model = Decorator("models")
optimizer = Decorator("optimizers")
scheduler = Decorator("schedulers")
dataset = Decorator("datasets")
loss = Decorator("losses")
metric = Decorator("metrics")
augmentation = Decorator("augmentations")
training_step = Decorator("training_steps")
training_loop = Decorator("training_loops")
