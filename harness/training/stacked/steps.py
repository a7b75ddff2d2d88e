"""A stack's updates, batch by batch: each run as it is, or where the device can, recorded once and
replayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from harness.training.stacked.cuda_graph import (
    UNPROVEN,
    Recorder,
    Recording,
    RecordingFailed,
    RequestedMasks,
    Scores,
    StaticStep,
)
from harness.training.stacked.modules.forward_pass import DropoutMasks
from harness.training.stacked.optimizer import EpochCoefficients, UpdateCoefficients
from harness.training.stacked.stack import EpochStreams, Stack

FACT = "cuda_graph"
"""In `Ended.facts` of a stack's trials where its device can record: `CAPTURED`, or why not."""
CAPTURED = "captured"
WORTH_BATCHES = 50
"""Batches of a whole run from which recording one may save more time than it takes."""


class StepRunner:
    """The updates of a stack, batch by batch.

    What is recorded is recorded anew after rows have closed ranks, and forgotten when this is left
    as a context. An epoch's shorter last batch is run as it is, and so is every batch where
    recording one has failed.

    recorder: None runs every batch as it is.
    """

    def __init__(self, stack: Stack, recorder: Recorder | None) -> None:
        self._stack = stack
        self._recorder = recorder
        self._recording: Recording | None = None
        self._told = "" if recorder is None else "not captured: it ended before"
        reason = None if recorder is None else recording_refusal(stack)
        if reason is not None:
            self._refuse(reason)

    def __enter__(self) -> StepRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._recording = None

    @property
    def set_up(self) -> int:
        """Batches before one takes the time that those after it take."""
        return 1 if self._recorder is None else 1 + UNPROVEN

    @property
    def metadata(self) -> Mapping[str, str]:
        """For `Ended.facts`."""
        return {FACT: self._told} if self._told else {}

    def over(
        self, places: Tensor, numbers: EpochCoefficients, streams: EpochStreams, first: int = 0
    ) -> Iterator[Scores]:
        """Each batch's update when its scores are asked for; they hold until the next epoch.

        places: int64 [S, N], each seed's order. numbers: of the epoch's updates. streams: of what
        is left of it. first: the batch to begin with, from 0.
        """
        size, masks = self._stack.trial.batch_size, streams.masks
        batches = list(zip(places.split(size, dim=1), numbers, strict=True))
        if self._recording is not None and not self._recording.static.is_current:
            self._recording = None
        begun: Recording | None = None
        for index in range(first, len(batches)):
            chosen, wanting = batches[index]
            recording = self._recording
            if self._recorder is None or chosen.shape[1] < size:
                yield self._stack.step(chosen, wanting, masks, streams.augment_batch)
            elif recording is None:
                heard = RequestedMasks(masks)
                scores = self._stack.step(chosen, wanting, heard)
                if self._stack.updates.steady:
                    static = StaticStep(self._stack, scores, heard, places, numbers)
                    self._recording = Recording(self._recorder, static)
                yield scores
            else:
                if begun is not recording:
                    recording.static.begin(places, numbers, index)
                    begun = recording
                yield self._recorded(recording, index, chosen, wanting, masks)

    def _recorded(
        self,
        recording: Recording,
        index: int,
        chosen: Tensor,
        wanting: UpdateCoefficients,
        masks: DropoutMasks,
    ) -> Scores:
        try:
            scores = recording.step(index, masks)
        except RecordingFailed as reason:
            self._refuse(str(reason))
            recording.static.masks.rewind()
            return self._stack.step(chosen, wanting, recording.static.masks)
        if recording.proven:
            self._told = CAPTURED
        return scores

    def _refuse(self, reason: str) -> None:
        self._recorder = self._recording = None
        self._told = f"not captured: {reason}"


def recording_refusal(stack: Stack) -> str | None:
    """Why an update of this stack is not to be recorded, as far as can be told without trying."""
    whole = stack.trial.epochs * (len(stack.pools.train) // stack.trial.batch_size)
    if whole < WORTH_BATCHES:
        return f"fewer than {WORTH_BATCHES} whole batches"
    if stack.updates.alone:
        return "an optimizer in it has no rule for a whole stack"
    if stack.augment:
        return "augmentations draw anew for every batch"
    return None
