"""Names in MLflow: tags, params and files of runs."""

from __future__ import annotations

from typing import Final

TAG_KIND: Final = "harness.kind"
"""`SWEEP` or `STUDY` on a parent run, `TRIAL` on a child."""
SWEEP: Final = "sweep"
STUDY: Final = "study"
TRIAL: Final = "trial"

# What a trial is, and what it was selected on.
TAG_TRIAL: Final = "harness.trial"
"""The resolved trial as JSON (`Trial.resolved()`), so that a reader needs no file."""
TAG_IDS: Final = "harness.ids"
"""The params `trial_id` and `config_id`, set when the run is created: a process that is killed
before it wrote the params leaves a run whose trial is known."""
TAG_WEIGHTS: Final = "harness.weights"
"""The checksum of the file of pretrained weights (`short_checksum`); absent without one."""
TAG_METRIC: Final = "harness.metric"
"""The experiment's selection metric, "val/accuracy"; on parents and children."""
TAG_DIRECTION: Final = "harness.direction"
TAG_TARGET: Final = "harness.target"
TAG_EXPECT: Final = "harness.expect"
"""On a parent: the experiment's `expect:` list as JSON."""
TAG_CODE: Final = "harness.code"
"""On a trial whose components come from a user's code: its identities as JSON (`Trial.codes`)."""
TAG_PLAN: Final = "harness.plan"
"""On a parent that has a `PLAN_FILE`: the checksum of the experiment file, and after it
`OVERRIDDEN` if the command line changed what the file says."""
OVERRIDDEN: Final = " overridden"

# How a trial ended.
TAG_OUTCOME: Final = "harness.outcome"
"""A `records.Outcome`; absent while a trial is trained."""
TAG_REASON: Final = "harness.reason"
TAG_DIVERGED_AT: Final = "harness.diverged_at"
"""The first epoch (from 1) in which the loss was not finite."""
TAG_PRUNED_AT: Final = "harness.pruned_at"
"""The epoch after which a pruner stopped a search's trial; its outcome is interrupted."""
TAG_SUPERSEDED: Final = "harness.superseded"
"""On a trial's run that a later run replaces (`--rerun`): readers leave it out."""

# What a trial is to a search.
TAG_SEARCH_PREFIX: Final = "harness.search."
"""Prefix: `study`, `sampler` and `number` of a point that a search trained; `study` and `role` of a
trial on fresh seeds."""
TAG_STUDY: Final = TAG_SEARCH_PREFIX + "study"
TAG_POINT_NUMBER: Final = TAG_SEARCH_PREFIX + "number"
"""On a trial that a search trained in order to choose; not on winners that are trained again."""
TAG_ROLE: Final = TAG_SEARCH_PREFIX + "role"
"""On trials on fresh seeds: `TUNED`, `DEFAULT`, or `BOTH` if the default won."""
TUNED: Final = "tuned"
DEFAULT: Final = "default"
BOTH: Final = "tuned and default"

# How a trial was trained.
TAG_DEVICE: Final = "harness.device"
"""The device that was used ("cpu", "cuda:0"), where the param `device` may be "auto"."""
TAG_DEVICE_NAME: Final = "harness.device_name"
TAG_EXCLUSIVE: Final = "harness.exclusive"
""""true" if the trial had its device to itself, so that its times can be compared."""
TAG_STACK_SIZE: Final = "harness.fused"
"""How many trials were trained in one stack with it, itself included: its times are the stack's."""
TAG_NOT_STACKED: Final = "harness.not_fused"
"""Why a trial of a stack was trained by itself."""
TAG_CUDA_GRAPH: Final = "harness.cuda_graph"
"""Of a trial in a stack on a GPU: "captured" if its updates were a CUDA graph, else why not."""
TAG_RESUMED: Final = "harness.resumed"
"""How often the trial was resumed from a checkpoint; absent if never."""
TAG_RESUMED_AFTER: Final = "harness.resumed_after"
"""Where it was last resumed: "3 epochs and 120 batches"."""
TAG_CONTINUED_FROM: Final = "harness.continued_from"
"""The epochs of the shorter trial from whose last checkpoint it was continued."""
TAG_NOT_CONTINUED: Final = "harness.not_continued"
"""Why it was not continued from a shorter trial that was done."""
TAG_RESTARTED: Final = "harness.restarted"
"""Why it was trained from the start although it had checkpoints."""

# Where a run comes from.
TAG_PARENT: Final = "mlflow.parentRunId"
"""On a trial: the run of its sweep or study."""
TAG_VERSION: Final = "harness.version"
TAG_GIT_COMMIT: Final = "mlflow.source.git.commit"
"""The commit of the repository of the experiment file."""
TAG_GIT_DIRTY: Final = "harness.git_dirty"
"""Whether that repository's files differ from the commit."""
TAG_HARNESS_COMMIT: Final = "harness.git_commit"
"""The commit of the harness's own checkout, if it runs from one."""
TAG_HOST: Final = "harness.host"
TAG_PROCESS: Final = "harness.owner"
"""The process that writes a run, as JSON (`processes.process_tag`)."""
TAG_HEARTBEAT: Final = "harness.lease"
"""On a parent: a counter that its process increments while it is alive (`leases.Lease`)."""
TAG_CLAIMS_PREFIX: Final = "harness.claims."
"""Prefix, on a parent: ids of the trials that its process has claimed, separated by spaces."""

TAG_IDENTITY: Final = "harness.identity"
"""On an experiment: a random name, by which its files beside the store are known."""

TAG_ARTIFACTS: Final = "harness.artifacts"
"""`ARTIFACTS_COMPLETE`, or what is missing, and why; absent if the run stored none."""
ARTIFACTS_COMPLETE: Final = "complete"
WEIGHTS_FILE: Final = "weights/state_dict.pt"
PLAN_FILE: Final = "plan.json"
"""On a parent: the trials that its experiment file asked for (`PlanSummary`)."""
CODE_FILE: Final = "code.json"
"""On a parent: the source of the user's code that its experiment file names (`CodeSnapshot`)."""
PROVENANCE_FILE: Final = "provenance.json"
DIGEST_CHARACTERS: Final = 32
"""Characters of a SHA-256 that are stored: MLflow's column of digests holds 36."""
PARAM_TRIAL: Final = "trial_id"
PARAM_CONFIG: Final = "config_id"
ABSENT: Final = "-"
"""Value of a param on a run whose component lacks the option, so that all runs share the keys."""


def short_checksum(sha256: str) -> str:
    """Returns the part of a SHA-256 that a run holds, as its data set's digest or in a tag."""
    return sha256[:DIGEST_CHARACTERS]
