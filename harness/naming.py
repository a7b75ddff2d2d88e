"""Names and number formats of the store, which the run side writes and the read side reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

SWEEP: Final = "sweep"
STUDY: Final = "study"
TRIAL: Final = "trial"

TAG_KIND: Final = "harness.kind"
"""`SWEEP` or `STUDY` on a parent run, `TRIAL` on a child."""
TAG_OUTCOME: Final = "harness.outcome"
"""A `records.Outcome`; absent while a trial runs."""
TAG_REASON: Final = "harness.reason"
TAG_TRIAL: Final = "harness.trial"
"""The resolved trial as JSON (`Trial.resolved()`), so that a reader needs no artifact."""
TAG_IDS: Final = "harness.ids"
"""The params `trial_id` and `config_id`, there from a run's first moment: a process that is killed
before it wrote the params leaves a run that can still be told."""
TAG_METRIC: Final = "harness.metric"
"""The experiment's selection metric, "val/accuracy"; on parents and children."""
TAG_DIRECTION: Final = "harness.direction"
TAG_TARGET: Final = "harness.target"
TAG_EXPECT: Final = "harness.expect"
"""On a parent: the experiment's `expect:` list as JSON."""
TAG_DIVERGED_AT: Final = "harness.diverged_at"
"""The first epoch (from 1) in which the loss was no longer finite."""
TAG_SEARCH: Final = "harness.search."
"""Prefix of what a search knows of a trial: its point's `study`, `sampler` and `number`; of those
trained on fresh seeds `study` and `role`."""
TAG_STUDY: Final = TAG_SEARCH + "study"
TAG_ROLE: Final = TAG_SEARCH + "role"
"""On trials on fresh seeds: `TUNED`, `DEFAULT`, or `BOTH` where the default won."""
TUNED: Final = "tuned"
DEFAULT: Final = "default"
BOTH: Final = "tuned and default"
TAG_NUMBER: Final = TAG_SEARCH + "number"
"""On a trial that a search trained to choose by; not on its winners, trained again."""
TAG_PRUNED_AT: Final = "harness.pruned_at"
"""The epoch after which a pruner stopped a search's trial; its outcome is interrupted."""
TAG_EXCLUSIVE: Final = "harness.exclusive"
""""true" where the trial had its device to itself, so that its times can be compared."""
TAG_FUSED: Final = "harness.fused"
"""How many trials trained as one stack with it, itself counted: its times are the stack's."""
TAG_NOT_FUSED: Final = "harness.not_fused"
"""Why a trial that was to train in a stack trained by itself."""
TAG_CUDA_GRAPH: Final = "harness.cuda_graph"
"""Of a trial in a stack on a GPU: "captured" where its updates were a CUDA graph, else why not."""
TAG_RESUMED: Final = "harness.resumed"
"""How often the trial was interrupted and went on from a checkpoint; absent where never."""
TAG_RESUMED_AFTER: Final = "harness.resumed_after"
"""Where it last went on: "3 epochs and 120 batches"."""
TAG_CONTINUED: Final = "harness.continued_from"
"""The epochs of the shorter trial, done before, whose last checkpoint this one went on from."""
TAG_NOT_CONTINUED: Final = "harness.not_continued"
"""Why it did not go on from a shorter trial that was done."""
TAG_RESTARTED: Final = "harness.restarted"
"""Why it began anew although there were checkpoints of it."""
TAG_DEVICE: Final = "harness.device"
"""The device that was used ("cpu", "cuda:0"), where the param `device` may say "auto"."""
TAG_DEVICE_NAME: Final = "harness.device_name"
TAG_SUPERSEDED: Final = "harness.superseded"
"""On a trial's run that a later run replaces (`--rerun`): readers leave it out."""
TAG_ARTIFACTS: Final = "harness.artifacts"
""""complete" once figures, weights and model are all stored."""
TAG_VERSION: Final = "harness.version"
TAG_GIT_COMMIT: Final = "mlflow.source.git.commit"
"""The commit of the repository that the experiment file lies in."""
TAG_GIT_DIRTY: Final = "harness.git_dirty"
"""Whether that repository's files differ from the commit."""
TAG_HARNESS_COMMIT: Final = "harness.git_commit"
"""The commit of the harness's own checkout, where it runs from one."""
TAG_HOST: Final = "harness.host"
TAG_OWNER: Final = "harness.owner"
"""The process that writes a run, as JSON: a later one can tell whether it died."""
TAG_LEASE: Final = "harness.lease"
"""On a parent: a counter that its harness moves while it lives."""
TAG_CLAIMS: Final = "harness.claims."
"""On a parent, prefix: ids of the trials that its harness has claimed and not ended, by spaces."""

PARAM_TRIAL: Final = "trial_id"
PARAM_CONFIG: Final = "config_id"
ABSENT: Final = "-"
"""Value of a param on a run whose component lacks the option, so that all runs share the keys."""

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


def number(value: float | int) -> str:
    """One canonical text for a number: 0.001, never 1e-3 beside 0.0010; 1 and 1.0 both "1"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return repr(value)


def text(value: Any) -> str:
    """The canonical text of any option's value, as a param or in a label."""
    if value is None:
        return "none"
    if isinstance(value, (bool, int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return str(value)
