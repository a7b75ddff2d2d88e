"""A disk that fills up under a sweep's store: a real, small file system."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.small_disks import in_namespace

FILE = """\
name: full
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1}
grid: {seed: %s}
artifacts: none
"""
TRIALS = 700
SCRIPT = """\
mount -t tmpfs -o size=6m none mlruns || exit 77
cp "$1" mlruns/mlflow.db; shift
"$@"; echo "first: $?"
cp -a mlruns first
mount -o remount,size=256m mlruns
"$@"; echo "second: $?"
cp -a mlruns second
"""
COMPLETE = """
SELECT runs.status, COUNT(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
AND tags.key = 'harness.kind' AND tags.value = ? GROUP BY runs.status
"""


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_ends_and_goes_on_once_there_is_space(
    workspace: Path, empty_database: Path
) -> None:
    (workspace / "full.yaml").write_text(FILE % list(range(TRIALS)))
    sweep = [sys.executable, "-m", "harness.sweep", "full.yaml", "--no-compare", "--workers", "1"]
    told = in_namespace(SCRIPT, str(empty_database), *sweep)
    first, second = re.split(r"first: \d+\n", told)
    assert "first: 0" not in told
    assert re.search("full|No space left", first), first
    assert "Traceback" not in first
    assert "second: 0" in second
    cut, whole = workspace / "first", workspace / "second"
    assert 0 < complete(cut, "trial").get("FINISHED", 0) < TRIALS
    assert "FINISHED" not in complete(cut, "sweep"), "it is not marked as complete"
    assert complete(whole, "trial")["FINISHED"] == TRIALS
    assert complete(whole, "sweep")["FINISHED"] == 1


def complete(folder: Path, kind: str) -> dict[str, int]:
    """The number of runs with each status; the database must be intact."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(reader.execute(COMPLETE, (kind,)))
