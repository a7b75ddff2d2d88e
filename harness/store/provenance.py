"""Where a run's numbers come from: code, machine, packages, seeds, data, times."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from harness import __version__
from harness.core.records import Ended
from harness.core.seeding import SEEDING_RULE, stream_seeds
from harness.core.system import cpu_model
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import SEMANTICS_VERSION
from harness.store import names
from harness.store.git import GitState, checkout_state, git_state
from harness.store.uris import redact

ENVIRONMENT = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "HARNESS_DATA",
    "MKL_NUM_THREADS",
    "MLFLOW_TRACKING_URI",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "SLURM_JOB_ID",
)
"""Variables that change results or say where a job ran. No other is ever recorded."""

KEY_PACKAGES = (
    "mlflow",
    "numpy",
    "optuna",
    "pandas",
    "pydantic",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
)
"""Recorded with every run; all others with the parent run."""


@dataclass(frozen=True, slots=True)
class ProcessProvenance:
    """What all trials of this process share. facts: JSON-able, small, for every run. packages:
    every installed one. git: of the experiment file's repository, with the diff. harness_git: of
    the harness's own checkout, empty where it is installed."""

    metadata: Mapping[str, Any]
    packages: Mapping[str, str]
    git: GitState
    harness_git: GitState

    def parent(self) -> dict[str, Any]:
        """The provenance of a parent run: everything but the diff, which is a file of its own."""
        return {**self.metadata, "packages": dict(self.packages)}

    def tags(self) -> dict[str, str]:
        """The key facts, as tags of every run."""
        tags = {
            names.TAG_VERSION: __version__,
            names.TAG_HOST: platform.node(),
            "mlflow.user": _user(),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": redact(" ".join(_command()))[:500],
        }
        if self.git.commit:
            tags[names.TAG_GIT_COMMIT] = self.git.commit
            tags[names.TAG_GIT_DIRTY] = str(self.git.dirty).lower()
        if self.harness_git.commit:
            tags[names.TAG_HARNESS_COMMIT] = self.harness_git.commit
        return tags

    def diffs(self) -> dict[str, str]:
        """What was not committed, by the name of the file that keeps it."""
        found = {"git.diff": self.git.diff}
        if self.harness_git != self.git:
            found["harness.diff"] = self.harness_git.diff
        return {name: diff for name, diff in found.items() if diff}


@dataclass(frozen=True, slots=True)
class Times:
    """Start and end of a run in milliseconds since 1970 (UTC), and its seconds by a clock that
    nobody sets."""

    start: int
    end: int
    seconds: float


@cache
def process_provenance(folder: Path) -> ProcessProvenance:
    """Found once; it takes some tenths of a second. folder: where the experiment file lies."""
    git, harness_git = git_state(folder), checkout_state(Path(__file__).resolve().parents[2])
    packages = _packages()
    metadata = {
        "harness": __version__,
        "training_semantics": SEMANTICS_VERSION,
        "command": [redact(part) for part in _command()],
        "python": platform.python_version(),
        "os": platform.platform(),
        "host": platform.node(),
        "cpu": {
            "model": cpu_model(),
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
        },
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "packages": {name: packages[name] for name in KEY_PACKAGES if name in packages},
        "git": git.metadata(),
        "harness_git": harness_git.metadata(),
        "environment": {n: redact(os.environ[n]) for n in ENVIRONMENT if n in os.environ},
    }
    return ProcessProvenance(metadata, packages, git, harness_git)


def trial_provenance(
    folder: Path,
    planned: PlannedTrial,
    fingerprint: str,
    started: Mapping[str, Any],
    ended: Ended,
    times: Times,
    sampler: Mapping[str, Any],
) -> dict[str, Any]:
    """The provenance of a trial's run, JSON-able.

    folder: where the experiment file lies. fingerprint: SHA-256 of the data set. started:
    `Started.facts`. sampler: of a search (its name, the trial's number), or empty.
    """
    return {
        **process_provenance(folder).metadata,
        "trial": planned.trial.resolved(),
        "trial_id": planned.trial_id,
        "config_id": planned.config_id,
        "dataset_sha256": fingerprint,
        "streams": stream_seeds(planned.trial.seed),
        "streams_rule": SEEDING_RULE,
        "facts": dict(started),
        "sampler": dict(sampler),
        "start": utc(times.start),
        "end": utc(times.end),
        "seconds": times.seconds,
        "outcome": ended.outcome.value,
        "reason": redact(ended.reason),
    }


def utc(milliseconds: int) -> str:
    """ISO 8601, in UTC, to the millisecond."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")


def _packages() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _gpus() -> list[dict[str, str]]:
    """By nvidia-smi: a look at the GPUs must not start CUDA in the parent process."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = ("name", "driver_version", "memory.total", "uuid")
    try:
        done = subprocess.run(  # noqa: S603
            [tool, f"--query-gpu={','.join(query)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines())
    return [dict(zip(query, row, strict=True)) for row in rows if len(row) == len(query)]


def _command() -> list[str]:
    """As typed, with the interpreter's path and a module's file cut to names."""
    first = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("python")
    package = Path(__file__).parents[1]
    name = f"{package.name}.{first.stem}" if first.parent == package else first.name
    return [name, *sys.argv[1:]]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
