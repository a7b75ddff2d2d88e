"""A full disk under the checkpoints: a real, small file system."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.records import Ended, Measured, Outcome
from harness.execution.checkpoint_folder import CheckpointFolder
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.run_task import run
from harness.experiment.trial import Trial
from harness.store import names
from tests.faults.small_disks import in_namespace
from tests.resume_support import (
    comparable,
    metadata_of,
    planned,
    task,
    train_until,
    uninterrupted_records,
)
from tests.support import make_trial


def small_trial(**fields: object) -> Trial:
    model = {"name": "mlp", "hidden": [16], "dropout": 0.3}
    return make_trial(**{"batch_size": 256, "epochs": 4, "model": model, **fields})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; if none can be mounted, a limit of so many bytes a file."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "none", str(place)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0:
        yield place
        subprocess.run(["umount", "-l", str(place)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    yield place
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_fails_the_trial_and_leaves_the_old_file(
    small_disk: Path, data_root: Path
) -> None:
    trial = small_trial()
    checkpoints = ExperimentCheckpoints(small_disk / "room", every=0)
    folder = train_until(trial, data_root, checkpoints, epochs=1)
    kept = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    (small_disk / "others").write_bytes(b"x" * 1000)
    large = small_trial(model={"name": "mlp", "hidden": [2000], "dropout": 0.3})
    *_, ended = run(task(large, data_root, checkpoints))
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    place = checkpoints.trial_folder(planned(large))
    assert f"no checkpoint could be written in {place} (" in ended.reason
    assert "free): once that is fixed, --retry-failed trains the trial again" in ended.reason
    assert not ended.traceback, "the reason says all"
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == kept
    assert not list(small_disk.rglob("*.partial"))
    again = list(run(task(trial, data_root, checkpoints)))
    assert metadata_of(again[0])["resumed"] == 1
    assert comparable(again) == comparable(uninterrupted_records(trial, data_root)), (
        "the next is unaffected"
    )


def test_a_disk_that_fills_up_under_a_trial_costs_it_an_interval(
    small_disk: Path, data_root: Path
) -> None:
    trial = small_trial(epochs=3)
    checkpoints = ExperimentCheckpoints(small_disk / "room", every=0)
    folder = CheckpointFolder(checkpoints.trial_folder(planned(trial)))
    records, reached, kept = [], None, {}
    for record in run(task(trial, data_root, checkpoints)):
        records.append(record)
        if isinstance(record, Measured) and record.epoch == 1:
            reached = folder.latest_position()
            kept = {path.name: path.read_bytes() for path in folder.path.iterdir()}
            _fill(small_disk)
    assert reached is not None
    ended = records[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert f"resumes from the checkpoint before, after {reached}" in ended.reason
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == kept
    _make_room(small_disk)
    again = list(run(task(trial, data_root, checkpoints)))
    assert metadata_of(again[0])["resumed_after"] == str(reached)
    assert comparable(again) == comparable(uninterrupted_records(trial, data_root))


def _fill(disk: Path) -> None:
    """Leave no space, or none for a file of any useful size."""
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    except OSError:
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))


def _make_room(disk: Path) -> None:
    (disk / "filler").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


FILE = """\
name: full
trial: {dataset: digits, optimizer: adam, lr: 0.01, batch_size: 64, epochs: 3, seed: 0}
grid:
  model: [{name: mlp, hidden: [16]}, {name: mlp, hidden: [900]}, {name: mlp, hidden: [17]}]
artifacts: none
"""
SCRIPT = """\
mkdir -p mlruns/checkpoints
mount -t tmpfs -o size=2200k none mlruns/checkpoints || exit 77
"$@"; echo "first: $?"
find mlruns/checkpoints -name '*.pt' -o -name '*.partial'
mount -o remount,size=64m mlruns/checkpoints
"$@" --retry-failed; echo "second: $?"
"""


@pytest.mark.slow
def test_a_sweep_whose_disk_is_full_goes_on_without_the_one_trial(workspace: Path) -> None:
    (workspace / "full.yaml").write_text(FILE)
    sweep = [sys.executable, "-m", "harness.sweep", "full.yaml", "--no-compare"]
    flags = ["--executor", "process", "--workers", "1", "--checkpoint-every", "0"]
    told = in_namespace(SCRIPT, *sweep, *flags)
    first, second = told.split("first: 1\n")
    assert "no checkpoint could be written in" in first
    assert "2 done, 1 failed" in first
    kept = [line for line in second.splitlines() if line.endswith((".pt", ".partial"))]
    assert len(kept) == 2, second
    assert kept[0].endswith(".pt")
    assert "second: 0" in second
    _assert_it_went_on(workspace)


def _assert_it_went_on(workspace: Path) -> None:
    """Each trial is done, and the one that had failed resumed from its checkpoint."""
    from harness.store.store import open_store

    store = open_store(workspace)
    found = store.client.search_runs([store.experiment("full")])
    tags = [run_.data.tags for run_ in found if run_.data.tags[names.TAG_KIND] == names.TRIAL]
    failed = [tag for tag in tags if tag[names.TAG_OUTCOME] == Outcome.FAILED]
    assert len(failed) == 1
    assert "No space left on device" in failed[0][names.TAG_REASON]
    done = [tag for tag in tags if tag[names.TAG_OUTCOME] == Outcome.DONE]
    assert len(done) == 3
    resumed = [tag[names.TAG_RESUMED_AFTER] for tag in done if names.TAG_RESUMED in tag]
    assert len(resumed) == 1
    assert resumed[0] in failed[0][names.TAG_REASON]
