"""CUDA graphs: one update of a stack is recorded, and replayed for all further batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from harness.training.evaluation import ModelOutputs
from harness.training.stacked.modules.forward_pass import DropoutMasks
from harness.training.stacked.optimizer import Coefficients
from harness.training.stacked.stack import Stack

BATCHES_TO_PROVE = 2
"""Batches that a recording takes before it is replayed."""
TOLERANCE = 1e-5
"""The relative and absolute tolerance between the results of a replayed and of a run batch."""


class RecordingFailed(Exception):
    """An update cannot be recorded; the message says why."""


class Recorder:
    """Records the work of a device as CUDA graphs.

    The temporary tensors of a graph lie in a memory pool of its own, as large as an update needs.
    torch frees it with the last reference to the function that `record` returned.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _recording_stream(device)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Runs work on the recording stream, and makes synchronisation a RuntimeError.

        The error then comes before the recording: a recording that breaks off may leave torch's
        allocator in an inconsistent state.
        """
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        try:
            with _synchronisation_is_an_error(), torch.cuda.stream(self._stream):
                yield
        finally:
            main.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that repeats, on the device, all that `work` does there.

        `work` is called, but its results are not computed. Raises RuntimeError.
        """
        graph = torch.cuda.CUDAGraph()
        # The outer context: after a failed recording torch stays on the recording stream.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


@contextmanager
def _synchronisation_is_an_error() -> Iterator[None]:
    """torch warns that it does not detect every synchronisation; recording detects the rest."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns one stream for all stacks: cuBLAS keeps memory for each stream that it has used."""
    return torch.cuda.Stream(device)


def recorder_for(device: torch.device) -> Recorder | None:
    """Returns the device's recorder; None if it has none."""
    return Recorder(device) if device.type == "cuda" else None


class StaticMasks:
    """One batch's dropout masks in tensors that are reused.

    The first batch draws its masks from `source`. Every later batch must request masks of the same
    shapes and rates, in the same order.
    """

    def __init__(self, source: DropoutMasks) -> None:
        self._source = source
        self._requests: list[tuple[int | str, tuple[int, ...], float]] = []
        self._masks: list[Tensor] = []
        self._used = 0
        self._is_first = True

    def fill(self, source: DropoutMasks) -> None:
        """Copies the next batch's masks into the tensors."""
        for request, mask in zip(self._requests, self._masks, strict=True):
            mask.copy_(source.next(*request))
        self.rewind()

    def rewind(self) -> None:
        """Returns to the first mask of the batch."""
        self._used = 0
        self._is_first = False

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        request = (layer, tuple(shape), p)
        if self._is_first:
            self._requests.append(request)
            self._masks.append(self._source.next(*request).clone())
        elif self._requests[self._used : self._used + 1] != [request]:
            raise RuntimeError("its batches ask for different dropout masks")
        self._used += 1
        return self._masks[self._used - 1]


class StaticStep:
    """An update of a stack without arguments: all its inputs and outputs have fixed addresses.

    It counts whole batches on the device. `begin` sets the inputs of an epoch; `outputs_of` returns
    a batch's outputs, which are valid until the next epoch begins.

    first: the outputs of the first batch. masks: that it used. examples, coefficients: of the
    epoch, as for `begin`.
    """

    def __init__(
        self,
        stack: Stack,
        first: ModelOutputs,
        masks: StaticMasks,
        examples: Tensor,
        coefficients: Coefficients,
    ) -> None:
        self._stack = stack
        self._size = first.losses.shape[1]
        self._values = stack.network.values
        self.masks = masks
        n = examples.shape[1]
        self._examples = torch.empty_like(examples)
        # A table with one learning rate for all batches is an expanded view; these are not.
        self._tables = [table.new_empty(table.shape) for table in coefficients]
        self._outputs = [out.new_empty((len(out), n, *out.shape[2:])) for out in first]
        self._batch = examples.new_zeros(1)
        self._columns = examples.new_zeros(self._size)

    @property
    def is_current(self) -> bool:
        """Whether the stack still has the tensors that it had when this was built."""
        return self._values is self._stack.network.values

    def begin(self, examples: Tensor, coefficients: Coefficients, batch: int) -> None:
        """Sets an epoch's order [S, N] and coefficients, and the next batch (from 0)."""
        self._examples.copy_(examples)
        for table, values in zip(self._tables, coefficients, strict=True):
            table.copy_(values)
        self._batch.fill_(batch)
        start = batch * self._size
        torch.arange(start, start + self._size, out=self._columns)

    def run(self) -> None:
        """Updates the stack by the next batch, with the masks that are in place."""
        examples = self._examples.index_select(1, self._columns)
        tables = tuple(table.index_select(0, self._batch)[0] for table in self._tables)
        self.masks.rewind()
        outputs = self._stack.step(examples, tables, self.masks)
        for all_outputs, of_batch in zip(self._outputs, outputs, strict=True):
            all_outputs.index_copy_(1, self._columns, of_batch)
        self._batch += 1
        self._columns += self._size

    def outputs_of(self, batch: int) -> ModelOutputs:
        """Returns views of a batch's outputs."""
        start = batch * self._size
        return ModelOutputs(*(out[:, start : start + self._size] for out in self._outputs))

    def state_tensors(self) -> list[Tensor]:
        """The tensors that a batch changes and the next one reads."""
        return [*self._stack.state_tensors(), self._batch, self._columns]


class Recording:
    """Updates of a stack by batches of one size.

    The first batch is run and recorded. The second is run and replayed from the same state; if the
    results agree, the recording is proven, and all further batches are replayed.
    """

    def __init__(self, recorder: Recorder, static: StaticStep) -> None:
        self.static = static
        self.is_proven = False
        self._recorder = recorder
        self._replay: Callable[[], None] | None = None

    def step(self, batch: int, masks: DropoutMasks) -> ModelOutputs:
        """Updates the stack by a batch, which must be the static step's next one.

        Raises RecordingFailed; the stack is then unchanged, and `static.masks` are the batch's.
        """
        self.static.masks.fill(masks)
        if self.is_proven and self._replay is not None:
            self._replay()
            return self.static.outputs_of(batch)
        tensors = self.static.state_tensors()
        before: list[Tensor] = []
        try:
            before = _clone(tensors)
            if self._replay is None:
                self._run()
                self._replay = self._recorder.record(self.static.run)
            else:
                self._prove(self._replay, before, batch)
        except Exception as error:  # It may come from torch, from a driver, or from a user's code.
            _restore(before, tensors)
            raise RecordingFailed(str(error).strip().partition("\n")[0]) from error
        return self.static.outputs_of(batch)

    def _run(self) -> None:
        with self._recorder.rehearsal():
            self.static.run()

    def _prove(self, replay: Callable[[], None], before: Sequence[Tensor], batch: int) -> None:
        results = [*self.static.state_tensors(), *self.static.outputs_of(batch)]
        replay()
        replayed = _clone(results)
        _restore(before, results)
        self._run()
        if not all(map(_is_close, replayed, results)):
            raise RuntimeError("what was recorded computes something else")
        self.is_proven = True


def _clone(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _restore(copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for saved, tensor in zip(copies, tensors, strict=False):
        tensor.copy_(saved)


def _is_close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
