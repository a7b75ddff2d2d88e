"""The harness: an experiment file of the same grid for `python -m harness.sweep`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.ways.tasks import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    OPTIMIZERS,
    RATES,
    VAL_FRACTION,
    Work,
    grid,
)


def command(work: Work, trials: int, folder: Path, fuse: str) -> list[str]:
    """Writes the file into `folder`, and tells the command that runs it."""
    chosen = list(grid(trials))
    shared = {
        "dataset": work.dataset,
        "model": work.model,
        "loss": work.loss,
        "epochs": work.epochs,
        "batch_size": BATCH_SIZE,
        "eval_batch_size": EVAL_BATCH_SIZE,
        "val_fraction": VAL_FRACTION,
        "device": "cpu",
    }
    full = len(OPTIMIZERS) * len(RATES)
    if trials % full == 0:
        axes = {
            "optimizer": list(OPTIMIZERS),
            "lr": list(RATES),
            "seed": list(range(trials // full)),
        }
    else:  # The first trials of the grid, which are of one seed and one learning rate at most.
        axes = {"optimizer": [name for name, _, _ in chosen], "lr": [chosen[0][1]], "seed": [0]}
        if trials > len(OPTIMIZERS):
            raise ValueError(f"{trials} trials are no grid: at most 4, or a multiple of {full}")
    file = {
        "name": "benchmark",
        "trial": shared,
        "grid": axes,
        "artifacts": "none",
    }
    (folder / "benchmark.yaml").write_text(json.dumps(file), encoding="utf-8")
    sweep = [sys.executable, "-m", "harness.sweep", "benchmark.yaml", "--no-compare"]
    return [*sweep, "--fuse", fuse]
