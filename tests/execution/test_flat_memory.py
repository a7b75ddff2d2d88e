"""In a long sweep of short trials, the memory of its processes does not grow."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

TRIALS = 1000
FILE = f"""\
name: flat
trial: {{dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 3, batch_size: 32}}
grid: {{seed: {list(range(TRIALS))}}}
artifacts: none
"""
MIB = 1 << 20


@pytest.mark.slow
def test_a_sweep_of_a_thousand_trials_holds_what_one_of_hundreds_holds(workspace: Path) -> None:
    """Neither that of the parent nor that of a worker."""
    (workspace / "flat.yaml").write_text(FILE)
    command = [sys.executable, "-m", "harness.sweep", "flat.yaml", "--workers", "2"]
    with (workspace / "log").open("w") as log:
        sweep = psutil.Popen([*command, "--no-compare"], stdout=log, stderr=subprocess.STDOUT)
    early: dict[int, int] = {}
    late: dict[int, int] = {}
    while sweep.poll() is None:
        done = finished(workspace / "mlruns" / "mlflow.db")
        if done >= 300 and not early:
            early = held(sweep)
        elif early:
            now = held(sweep)
            late = now if now.keys() >= early.keys() else late  # Some leave before the parent.
        time.sleep(0.1)
    told = (workspace / "log").read_text()
    assert sweep.returncode == 0, told
    assert finished(workspace / "mlruns" / "mlflow.db") == TRIALS
    assert len(early) >= 3, "the parent and two workers"
    assert late.keys() >= early.keys(), "a worker was replaced"
    grown = {pid: (late[pid] - early[pid]) / MIB for pid in early}
    assert max(grown.values()) < 16, f"MiB more, by process, over some 700 trials: {grown}"


def finished(database: Path) -> int:
    """The number of finished trials in the store; 0 while it does not answer yet."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as reader,
    ):
        query = "SELECT count(*) FROM runs WHERE status = 'FINISHED' AND name NOT LIKE 'sweep %'"
        return int(reader.execute(query).fetchone()[0])
    return 0


def held(parent: psutil.Process) -> dict[int, int]:
    """Bytes of memory of each process of the sweep; empty once one is on its way out. Not what is
    its own: that changes as forked processes stop to share what they had in common."""
    try:
        everyone = [parent, *parent.children(recursive=True)]
        return {process.pid: process.memory_info().rss for process in everyone}
    except psutil.Error:
        return {}
