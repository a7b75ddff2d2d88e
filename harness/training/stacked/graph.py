"""One update of a stack recorded as a CUDA graph, and replayed for every batch that follows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from harness.training.stacked.passes import Masks
from harness.training.stacked.static import Scores, StaticStep

UNPROVEN = 2
"""Batches that a recording takes before it is replayed."""
TOLERANCE = 1e-5
"""Relative and absolute, between what a batch leaves behind when replayed and when run."""


class Refused(Exception):
    """An update cannot be recorded; the message says why."""


class Recorder(Protocol):
    """What records work on a device."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """Where work is done as it will be recorded. Raises RuntimeError in it for what cannot
        be."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does on the device, each time it is called, all that `work` does there; `work` is
        called for it, and not done. Raises RuntimeError."""
        ...


class CudaRecorder:
    """CUDA graphs.

    What a graph's kernels put between them lies in a pool of its own, as large as an update takes,
    which torch has back with the last reference to what `record` returned.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _side_stream(device)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """On the stream that records, and waiting for the device is an error: it shows before a
        recording begins, as one that breaks off may leave torch's allocator in disorder."""
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        try:
            with _waiting_is_an_error(), torch.cuda.stream(self._stream):
                yield
        finally:
            main.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # The outer one, as torch stays on the stream that records where a recording fails.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """torch warns that it does not find all that waits; recording finds the rest."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all stacks: cuBLAS keeps memory for each stream that it has worked on."""
    return torch.cuda.Stream(device)


def recorder_for(device: torch.device) -> Recorder | None:
    """None where a device has none."""
    return CudaRecorder(device) if device.type == "cuda" else None


class Recording:
    """The updates of a stack by batches of one size.

    The first is run and recorded, the second run and replayed from the same beginning; from the
    third on they are replayed, if the second left the same behind both ways.
    """

    def __init__(self, recorder: Recorder, static: StaticStep) -> None:
        self.static = static
        self.proven = False
        self._recorder = recorder
        self._replay: Callable[[], None] | None = None

    def step(self, batch: int, masks: Masks) -> Scores:
        """The update by a batch, which is the static step's next one.

        Raises Refused; the stack is then as it was, and `static.masks` are the batch's.
        """
        self.static.masks.fill(masks)
        if self.proven and self._replay is not None:
            self._replay()
            return self.static.scores_of(batch)
        living = self.static.living()
        before: list[Tensor] = []
        try:
            before = _copies(living)
            if self._replay is None:
                self._run()
                self._replay = self._recorder.record(self.static.run)
            else:
                self._prove(self._replay, before, batch)
        except Exception as error:  # Torch's, a driver's, or of code of one's own.
            _put_back(before, living)
            raise Refused(str(error).strip().partition("\n")[0]) from error
        return self.static.scores_of(batch)

    def _run(self) -> None:
        with self._recorder.rehearsal():
            self.static.run()

    def _prove(self, replay: Callable[[], None], before: Sequence[Tensor], batch: int) -> None:
        left = [*self.static.living(), *self.static.scores_of(batch)]
        replay()
        replayed = _copies(left)
        _put_back(before, left)
        self._run()
        if not all(map(_same, replayed, left)):
            raise RuntimeError("what was recorded computes something else")
        self.proven = True


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [one.clone() for one in tensors]


def _put_back(copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for one, to in zip(copies, tensors, strict=False):
        to.copy_(one)


def _same(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
