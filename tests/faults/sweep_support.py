"""Sweeps in processes of their own that are interrupted by signals, and what they stored."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness.core.metrics import BEST, MACHINE_DEPENDENT
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.store import names

PATIENCE = 120.0
"""Seconds that a busy machine may take for anything here."""


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)
    return found


def sweep(*arguments: str) -> subprocess.Popen[str]:
    """The sweep of `cut.yaml`."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.sweep", "cut.yaml", "--no-compare", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*arguments: str) -> str:
    """Run it to its end. Returns what it printed."""
    process = sweep(*arguments)
    told, _ = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 0, told
    return told


def reached(workspace: Path) -> list[Position]:
    """The positions of all trials and stacks with a checkpoint."""
    folders = {path.parent for path in workspace.glob("mlruns/checkpoints/*/*/*/*.pt")}
    found = (CheckpointFolder(folder).latest_position() for folder in folders)
    return [position for position in found if position is not None]


def cut(
    workspace: Path, number: int, *arguments: str, at: tuple[int, int] = (1, 5)
) -> list[Position]:
    """Start a sweep, signal it while it trains, and wait until all of its processes have ended.
    Returns the positions of its trials or stacks."""
    process = sweep("--checkpoint-every", "0", *arguments)
    wait_for(lambda: any(place >= at for place in reached(workspace)))
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    told, _ = process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(everyone, timeout=PATIENCE)
    assert not alive
    assert process.returncode == (130 if number != signal.SIGKILL else -9), told
    return reached(workspace)


def trials_of(workspace: Path) -> list[Any]:
    """The runs of its trials, also the interrupted ones."""
    from harness.store.store import open_store

    store = open_store(workspace)
    found = store.client.search_runs([store.experiment("cut")], max_results=1000)
    return [run for run in found if run.data.tags[names.TAG_KIND] == names.TRIAL]


def statuses(workspace: Path) -> list[str]:
    return sorted(run.info.status for run in trials_of(workspace))


def standing(workspace: Path) -> dict[str, tuple[dict[Any, float], dict[str, str]]]:
    """By trial id, the values and tags of the one run that counts; one value for each (metric,
    step)."""
    from harness.store.store import open_store

    store = open_store(workspace)
    found: dict[str, tuple[dict[Any, float], dict[str, str]]] = {}
    for run in trials_of(workspace):
        if names.TAG_SUPERSEDED in run.data.tags or run.info.status == "KILLED":
            continue
        assert run.info.status == "FINISHED"
        values: dict[Any, float] = {}
        for name in run.data.metrics:
            if name.removeprefix(BEST).startswith(MACHINE_DEPENDENT):
                continue
            for point in store.client.get_metric_history(run.info.run_id, name):
                assert (name, point.step) not in values, "one value for each metric and step"
                values[name, point.step] = point.value
        trial_id = run.data.params[names.PARAM_TRIAL]
        assert trial_id not in found
        found[trial_id] = (values, {**run.data.tags, "run_id": run.info.run_id})
    return found
