"""Records a stack's updates on a CPU, as a CUDA graph does on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = torch.ops.aten._local_scalar_dense.default
"""The operation of `float(tensor)`, `tensor.item()` and the like."""
SILENT = torch.ops.aten.native_batch_norm.default
"""Changes its running statistics, although its schema does not say so."""


class NoWaiting(TorchDispatchMode):
    """Makes reading a number from a tensor an error, as it is in a CUDA graph.

    after: the number of the operation that fails too.
    """

    def __init__(self, after: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left = after

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.left is not None:
            self.left -= 1
        if func is WAITS or self.left == 0:
            raise RuntimeError("operation not permitted when stream is capturing\n(more lines)")
        return func(*args, **(kwargs or {}))


class Tape(NoWaiting):
    """Records operations with the tensors that they read and wrote: a replay runs them, and no
    Python, on the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable or func is SILENT:
            self._remember((args, kwargs))
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def undo(self) -> None:
        """Restores the memory as it was before the recording."""
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self._calls:
            made = func(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(made), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)

    def _remember(self, written: Any) -> None:
        for tensor in _tensors(written):
            storage = tensor.untyped_storage()
            self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))


class TapeRecorder:
    """recorded, replayed: how often. spoil: changes the replay function."""

    def __init__(
        self, spoil: Callable[[Callable[[], None]], Callable[[], None]] | None = None
    ) -> None:
        self.recorded = self.replayed = 0
        self._spoil = spoil

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        with NoWaiting():
            yield

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        tape = Tape()
        with tape:
            work()
        tape.undo()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return self._spoil(replay) if self._spoil else replay


def _tensors(nested: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]
