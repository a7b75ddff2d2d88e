"""The updates of a stack, batch by batch, replayed from a CUDA graph if the device has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from harness.training.evaluation import ModelOutputs
from harness.training.stacked.cuda_graph import (
    BATCHES_TO_PROVE,
    Recorder,
    Recording,
    RecordingFailed,
    StaticMasks,
    StaticStep,
)
from harness.training.stacked.modules.forward_pass import DropoutMasks
from harness.training.stacked.optimizer import Coefficients
from harness.training.stacked.stack import EpochStreams, Stack

CUDA_GRAPH = "cuda_graph"
"""The metadata of `Ended` on devices that can record: `CAPTURED`, or why not."""
CAPTURED = "captured"
MIN_RECORDED_BATCHES = 50
"""Batches of a whole run from which recording one may save more time than it takes."""


class StepRunner:
    """Runs the updates of a stack, batch by batch.

    A batch is recorded once, and again after the rows of the stack have moved; the recording ends
    with this context. An epoch's shorter last batch runs unrecorded, and so does every batch after
    a recording has failed.

    recorder: None runs every batch unrecorded.
    """

    def __init__(self, stack: Stack, recorder: Recorder | None) -> None:
        self._stack = stack
        self._recorder = recorder
        self._recording: Recording | None = None
        self._status = "" if recorder is None else "not captured: it ended before"
        reason = None if recorder is None else recording_refusal(stack)
        if reason is not None:
            self._refuse(reason)

    def __enter__(self) -> StepRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._recording = None

    @property
    def warm_up_batches(self) -> int:
        """Batches that take longer than those after them."""
        return 1 if self._recorder is None else 1 + BATCHES_TO_PROVE

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata for `Ended`."""
        return {CUDA_GRAPH: self._status} if self._status else {}

    def run(
        self,
        examples: Tensor,
        coefficients: Coefficients,
        streams: EpochStreams,
        first: int = 0,
    ) -> Iterator[ModelOutputs]:
        """Yields the outputs of each batch after its update; they are valid until the next epoch.

        examples: int64 [S, N], each seed's order. coefficients: of all batches. streams: of the
        remaining batches. first: the index of the first batch, from 0.
        """
        size, masks = self._stack.trial.batch_size, streams.masks
        by_batch = zip(*(table.unbind() for table in coefficients), strict=True)
        batches = list(zip(examples.split(size, dim=1), by_batch, strict=True))
        if self._recording is not None and not self._recording.static.is_current:
            self._recording = None
        prepared: Recording | None = None
        for index in range(first, len(batches)):
            chosen, of_batch = batches[index]
            recording = self._recording
            if self._recorder is None or chosen.shape[1] < size:
                yield self._stack.step(chosen, of_batch, masks, streams)
            elif recording is None:
                first_masks = StaticMasks(masks)
                outputs = self._stack.step(chosen, of_batch, first_masks)
                if self._stack.optimizer.is_initialized:
                    static = StaticStep(self._stack, outputs, first_masks, examples, coefficients)
                    self._recording = Recording(self._recorder, static)
                yield outputs
            else:
                if prepared is not recording:
                    recording.static.begin(examples, coefficients, index)
                    prepared = recording
                yield self._run_recorded(recording, index, chosen, of_batch, masks)

    def _run_recorded(
        self,
        recording: Recording,
        index: int,
        examples: Tensor,
        coefficients: Coefficients,
        masks: DropoutMasks,
    ) -> ModelOutputs:
        try:
            outputs = recording.step(index, masks)
        except RecordingFailed as reason:
            self._refuse(str(reason))
            recording.static.masks.rewind()
            return self._stack.step(examples, coefficients, recording.static.masks)
        if recording.is_proven:
            self._status = CAPTURED
        return outputs

    def _refuse(self, reason: str) -> None:
        self._recorder = self._recording = None
        self._status = f"not captured: {reason}"


def recording_refusal(stack: Stack) -> str | None:
    """Returns why updates of this stack are not recorded, as far as known beforehand, or None."""
    batches = stack.trial.epochs * (len(stack.data.train) // stack.trial.batch_size)
    if batches < MIN_RECORDED_BATCHES:
        return f"fewer than {MIN_RECORDED_BATCHES} whole batches"
    if stack.optimizer.has_own_optimizers:
        return "an optimizer in it has no rule for a whole stack"
    if stack.augmentations:
        return "augmentations draw anew for every batch"
    if stack.stacked_step is not None and stack.stacked_step.draws:
        return "its training step draws anew for every batch"
    return None
