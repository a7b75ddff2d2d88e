"""Names of the metrics that training measures and the store keeps."""

from __future__ import annotations

from typing import Final

FINAL: Final = "final/"
"""Prefix of a metric of the last epoch's model ("final/test/accuracy")."""
BEST: Final = "best/"
"""Prefix of a metric at the epoch with the best selection metric ("best/test/accuracy")."""
BEST_EPOCH: Final = "best/epoch"
EPOCHS_TO_TARGET: Final = "epochs_to_target"
EXAMPLES_TO_TARGET: Final = "examples_to_target"
TRAIN_SECONDS: Final = "time/train_s"
"""Seconds of training so far, evaluation not counted."""
EVAL_SECONDS: Final = "time/eval_s"
"""Seconds of evaluation so far."""
THROUGHPUT: Final = "examples_per_s"
"""Training examples a second over the last epochs since the measurement before."""
PEAK_MEMORY: Final = "memory/peak_mib"
"""MiB, at the last epoch; see `training.memory.PeakMemory`."""
OF_THE_MACHINE: Final = ("time/", THROUGHPUT, PEAK_MEMORY)
"""Beginnings of the metrics that differ from one run of a trial to the next; all others agree."""
BATCH_LOSS: Final = "batch/loss"
"""Loss of single batches; its step is the number of examples seen."""
