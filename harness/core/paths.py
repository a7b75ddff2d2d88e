"""The project's folders: its root, its data sets, and the measurements of stacked training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

EXPERIMENT_SUFFIXES: Final = (".yaml", ".yml")
"""How the name of an experiment file ends; that of an experiment or a component does not."""


def project_root() -> Path:
    """Returns the nearest folder, from the working directory up, with `mlruns/` or `experiments/`.

    Returns the working directory if there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "mlruns").is_dir() or (folder / "experiments").is_dir():
            return folder
    return here


def data_root() -> Path:
    """Returns the folder of the data sets: `HARNESS_DATA`, or `data/` in the project's root."""
    folder = os.environ.get("HARNESS_DATA")
    return Path(folder).expanduser().resolve() if folder else project_root() / "data"


def stacks_file() -> Path:
    """Returns the file in which `--fuse auto` keeps its measurements."""
    return project_root() / "mlruns" / "stacks.json"
