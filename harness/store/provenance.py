"""Where a run's numbers come from: code, machine, packages, seeds, data and times."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from harness import __version__
from harness.core.process import cpu_model
from harness.experiment.trial import SEMANTICS_VERSION
from harness.store import names
from harness.store.uris import redact

DIFF_BYTES = 2**20
COMMAND_SECONDS = 20
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
"""Variables that change results or say where a job ran. No others are recorded."""

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
"""The packages that every run records; the parent run records all."""


@dataclass(frozen=True, slots=True)
class GitState:
    """The state of a working tree.

    commit: the full hash; "" outside a repository. changed: the lines of `git status --porcelain`,
    untracked files included. diff: against the commit, cut at DIFF_BYTES.
    """

    commit: str = ""
    branch: str = ""
    changed: tuple[str, ...] = ()
    diff: str = ""
    truncated: bool = False

    @property
    def dirty(self) -> bool:
        return bool(self.changed)

    def metadata(self) -> dict[str, object]:
        """Returns what every run records: the checksum of the diff, not the diff itself."""
        return {
            "commit": self.commit,
            "branch": self.branch,
            "dirty": self.dirty,
            "changed": list(self.changed),
            "diff_sha256": hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else "",
            "diff_truncated": self.truncated,
        }


@dataclass(frozen=True, slots=True)
class ProcessProvenance:
    """What all runs of this process share.

    metadata: what every run records, as JSON values. packages: all that are installed, with their
    versions. git: of the experiment file's repository. harness_git: of the harness's own checkout;
    empty if it is installed as a package.
    """

    metadata: Mapping[str, Any]
    packages: Mapping[str, str]
    git: GitState
    harness_git: GitState

    def tags(self) -> dict[str, str]:
        """Returns the tags of every run."""
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
        """Returns the uncommitted changes, by the name of the file to store them in."""
        diffs = {"git.diff": self.git.diff}
        if self.harness_git != self.git:
            diffs["harness.diff"] = self.harness_git.diff
        return {name: diff for name, diff in diffs.items() if diff}


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, which may be long before it is written.

    utc: milliseconds since 1970, UTC. steady: seconds of a clock that nobody sets.
    """

    utc: int
    steady: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.time_ns() // 1_000_000, time.monotonic())


@cache
def process_provenance(folder: Path) -> ProcessProvenance:
    """Returns this process's provenance, collected once, which takes some tenths of a second.

    folder: the experiment file's.
    """
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


def git_state(folder: Path) -> GitState:
    """Returns the state of the repository around `folder`; empty without a repository or git."""
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if not commit:
        return GitState()
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    cut = diff.encode()[:DIFF_BYTES].decode(errors="ignore")
    return GitState(
        commit=commit,
        branch=_git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip(),
        changed=tuple(_git(folder, "status", "--porcelain").splitlines()),
        diff=cut,
        truncated=len(cut) < len(diff),
    )


def checkout_state(folder: Path) -> GitState:
    """Returns the state of the repository whose top is `folder`; empty if the folder lies deeper in
    one, as a package installed within a project does."""
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    return git_state(folder) if top and Path(top).resolve() == folder.resolve() else GitState()


def utc(milliseconds: int) -> str:
    """Returns a time in ISO 8601, in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _packages() -> dict[str, str]:
    installed = metadata.distributions()
    packages = {d.metadata["Name"]: d.version for d in installed if d.metadata["Name"]}
    return dict(sorted(packages.items(), key=lambda item: item[0].lower()))


def _gpus() -> list[dict[str, str]]:
    """Asks nvidia-smi, as torch would start CUDA in the parent process."""
    query = ("name", "driver_version", "memory.total", "uuid")
    table = _output("nvidia-smi", f"--query-gpu={','.join(query)}", "--format=csv,noheader")
    rows = (line.split(", ") for line in table.splitlines())
    return [dict(zip(query, row, strict=True)) for row in rows if len(row) == len(query)]


def _command() -> list[str]:
    """Returns the command as typed, without the paths of the interpreter and the module."""
    first = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("python")
    package = Path(__file__).parents[1]
    name = f"{package.name}.{first.stem}" if first.parent == package else first.name
    return [name, *sys.argv[1:]]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    """Returns what git prints. It takes no locks, as others may be at work."""
    return _output("git", "--no-optional-locks", "-C", str(folder), *arguments)


def _output(*command: str) -> str:
    """Returns what a command prints, or "" if it fails or does not exist."""
    try:
        done = subprocess.run(  # noqa: S603 - the commands are written here
            command, capture_output=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
