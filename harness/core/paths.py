"""Where things lie: the project's root, its data folder and its default store."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The nearest folder at or above the working directory that holds `mlruns/` or `experiments/`;
    the working directory where none does."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "mlruns").is_dir() or (folder / "experiments").is_dir():
            return folder
    return here


def data_root() -> Path:
    """The folder of data sets: `HARNESS_DATA`, or `data/` under the root."""
    given = os.environ.get("HARNESS_DATA")
    return Path(given).expanduser().resolve() if given else project_root() / "data"


def stacks_file() -> Path:
    """Where `--fuse auto` remembers what it measured."""
    return project_root() / "mlruns" / "stacks.json"
