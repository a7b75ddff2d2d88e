"""An update of a stack without arguments: all that it reads and writes stays where it is in memory,
so that what it does on a device can be recorded once and done again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from harness.training.stacked.modules.forward_pass import DropoutMasks
from harness.training.stacked.optimizer import EpochCoefficients, UpdateCoefficients
from harness.training.stacked.stack import Stack

Scores = tuple[Tensor, Tensor, Tensor]
"""Logits [K, B, O], losses [K, B] and targets [K, B, …] of one batch."""


@dataclass(frozen=True, slots=True)
class _Request:
    layer: int | str
    shape: tuple[int, ...]
    p: float


class RequestedMasks:
    """Masks from elsewhere; remembers which were asked for."""

    def __init__(self, source: DropoutMasks) -> None:
        self._source = source
        self.requests: list[_Request] = []
        self.made: list[Tensor] = []

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        mask = self._source.next(layer, shape, p)
        self.requests.append(_Request(layer, tuple(shape), p))
        self.made.append(mask)
        return mask


class StaticMasks:
    """One batch's masks, in tensors that stay; every batch asks for those that the first did."""

    def __init__(self, heard: RequestedMasks) -> None:
        self._requests = heard.requests
        self._held = [mask.clone() for mask in heard.made]
        self._used = 0

    def fill(self, source: DropoutMasks) -> None:
        """Put the next batch's masks in."""
        for request, held in zip(self._requests, self._held, strict=True):
            held.copy_(source.next(request.layer, request.shape, request.p))
        self.rewind()

    def rewind(self) -> None:
        """Begin to hand out the same batch's masks again."""
        self._used = 0

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        wanted = self._requests[self._used] if self._used < len(self._requests) else None
        if wanted != _Request(layer, tuple(shape), p):
            raise RuntimeError("its batches ask for different dropout masks")
        self._used += 1
        return self._held[self._used - 1]


class StaticStep:
    """The update of a stack by its next whole batch.

    It counts the batches itself, on the device. What an epoch reads is put in by `begin`; what a
    batch scored is `scores_of` it, until the next epoch begins.

    first: what the first batch scored. masks: those that it asked for. places, numbers: of the
    epoch, as `begin` has them.
    """

    def __init__(
        self,
        stack: Stack,
        first: Scores,
        masks: RequestedMasks,
        places: Tensor,
        numbers: EpochCoefficients,
    ) -> None:
        self._stack = stack
        self._size = first[1].shape[1]
        self._values = stack.network.values
        self.masks = StaticMasks(masks)
        n = places.shape[1]
        self._places = torch.empty_like(places)
        # Tables that hold one learning rate for all batches are views of it; these are not.
        self._tables = [table.new_empty(table.shape) for table in numbers.of_slices]
        self._scores = [one.new_empty((len(one), n, *one.shape[2:])) for one in first]
        self._batch = places.new_zeros(1)
        self._columns = places.new_zeros(self._size)

    @property
    def is_current(self) -> bool:
        """Whether the stack's rows still lie where they lay when it was made."""
        return self._values is self._stack.network.values

    def begin(self, places: Tensor, numbers: EpochCoefficients, batch: int) -> None:
        """Take an epoch's order [S, N] and numbers, and go on from one of its batches (from 0)."""
        self._places.copy_(places)
        for table, made in zip(self._tables, numbers.of_slices, strict=True):
            table.copy_(made)
        self._batch.fill_(batch)
        start = batch * self._size
        torch.arange(start, start + self._size, out=self._columns)

    def run(self) -> None:
        """The next batch's update, by the masks that are in place."""
        places = self._places.index_select(1, self._columns)
        numbers = UpdateCoefficients(
            tuple(one.index_select(0, self._batch)[0] for one in self._tables), ()
        )
        self.masks.rewind()
        scored = self._stack.step(places, numbers, self.masks)
        for held, made in zip(self._scores, scored, strict=True):
            held.index_copy_(1, self._columns, made)
        self._batch += 1
        self._columns += self._size

    def scores_of(self, batch: int) -> Scores:
        """Views of what a batch scored."""
        start = batch * self._size
        outputs, losses, targets = (one[:, start : start + self._size] for one in self._scores)
        return outputs, losses, targets

    def living(self) -> list[Tensor]:
        """What a batch leaves behind for the next one."""
        return [*self._stack.living(), self._batch, self._columns]


UNPROVEN = 2
"""Batches that a recording takes before it is replayed."""
TOLERANCE = 1e-5
"""Relative and absolute, between what a batch leaves behind when replayed and when run."""


class RecordingFailed(Exception):
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

    def step(self, batch: int, masks: DropoutMasks) -> Scores:
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
            raise RecordingFailed(str(error).strip().partition("\n")[0]) from error
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
