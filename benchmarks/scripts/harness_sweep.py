"""The same grid as an experiment file for `python -m harness.sweep`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.scripts.workloads import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    OPTIMIZERS,
    RATES,
    VAL_FRACTION,
    Workload,
    grid,
)


def command(workload: Workload, trials: int, folder: Path, fuse: str) -> list[str]:
    """Writes the file to `folder`. Returns the command that runs it."""
    chosen = list(grid(trials))
    shared = {
        "dataset": workload.dataset,
        "model": workload.model,
        "loss": workload.loss,
        "epochs": workload.epochs,
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
    else:  # The first trials of the grid have one seed and one learning rate.
        axes = {"optimizer": [name for name, _, _ in chosen], "lr": [chosen[0][1]], "seed": [0]}
        if trials > len(OPTIMIZERS):
            raise ValueError(f"{trials} trials are no grid: at most 4, or a multiple of {full}")
    experiment = {
        "name": "benchmark",
        "trial": shared,
        "grid": axes,
        "artifacts": "none",
    }
    (folder / "benchmark.yaml").write_text(json.dumps(experiment), encoding="utf-8")
    sweep = [sys.executable, "-m", "harness.sweep", "benchmark.yaml", "--no-compare"]
    return [*sweep, "--fuse", fuse]
