"""The next sweep removes files of runs that a killed process never wrote."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from harness import doctor
from harness.store.coordination.processes import ActiveWriter, no_active_writers
from harness.store.coordination.stale_runs import orphaned_folders, remove_orphaned_folders
from harness.store.store import Store, open_store
from harness.store.write.sweep_writer import SweepWriter, finish
from tests.store.store_support import GOAL, digits, done, make_plan, runs, write

pytestmark = pytest.mark.slow

DIES = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from tests.store.store_support import GOAL, digits, done, make_plan
from harness.store.store import open_store
from harness.store.write.sweep_writer import SweepWriter

plan = make_plan([digits(seed=seed) for seed in range(3)])
with SweepWriter(open_store(), plan, GOAL) as writer:
    for planned in plan.trials:
        for record in done():
            writer.record(planned, record)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(store: Store) -> list[Path]:
    """The folders of three runs whose process was killed before it wrote them; beside that of one
    that stands in the store."""
    write(store, make_plan([digits()], name="other"), {0: done()})
    before = folders(store)
    ended = subprocess.run([sys.executable, "-c", DIES, json.dumps(sys.path)])
    assert ended.returncode == -signal.SIGKILL
    made = [folder for folder in folders(store) if folder not in before]
    assert before
    found = [folder for folder in made if not is_run(store, folder.name)]
    assert len(found) == 3
    return found


def folders(store: Store) -> list[Path]:
    return sorted((store.home / "artifacts").iterdir())


def is_run(store: Store, run_id: str) -> bool:
    with suppress(MlflowException):
        return bool(store.client.get_run(run_id))
    return False


def test_the_next_sweep_removes_them(store: Store, killed: list[Path]) -> None:
    assert orphaned_folders(store) == killed
    write(store, make_plan([digits()]), {0: done()})
    assert not any(folder.exists() for folder in killed)
    left = folders(store)
    assert len(left) >= 2
    assert all(is_run(store, folder.name) for folder in left)


def test_a_sweep_with_nothing_to_train_removes_them_too(store: Store, killed: list[Path]) -> None:
    """It closes the run of a sweep that was killed at its very end, too."""
    assert [run for run in runs(store) if run.info.status == "RUNNING"]
    finish(store, make_plan([digits()]))
    assert not [run for run in runs(store) if run.info.status == "RUNNING"]
    assert not any(folder.exists() for folder in killed)


def test_nothing_is_removed_while_another_process_writes(store: Store, killed: list[Path]) -> None:
    """Not even one of another experiment: its unfinished runs look the same."""
    other = ActiveWriter(store.writers_file(store.experiment("other")))
    assert not orphaned_folders(store)
    assert remove_orphaned_folders(store) == 0
    with SweepWriter(store, make_plan([digits()]), GOAL):
        assert all(folder.exists() for folder in killed)
    other.leave()
    assert orphaned_folders(store) == killed


def test_a_writer_of_a_new_experiment_is_noticed(store: Store, killed: list[Path]) -> None:
    with no_active_writers(store.claims_folder) as is_alone:
        assert is_alone()
        newcomer = ActiveWriter(store.writers_file(store.experiment("new")))
        assert not is_alone()
    newcomer.leave()


def test_folders_with_other_files_stay(store: Store, killed: list[Path]) -> None:
    """Somebody may have purged the run, or put the files there."""
    for folder in killed:
        (folder / "artifacts" / "weights.pt").write_bytes(b"mine")
    assert not orphaned_folders(store)


def test_runs_of_another_database_in_the_folder_keep_their_files(
    store: Store, killed: list[Path], empty_database: Path
) -> None:
    shutil.copy(empty_database, store.home / "another.db")
    another = open_store(uri=f"sqlite:///{store.home}/another.db")
    write(another, make_plan([digits()], name="third"), {0: done()})
    before = folders(store)
    assert remove_orphaned_folders(another) == 3
    assert [folder for folder in before if not folder.exists()] == killed
    (store.home / "torn.db").write_bytes(empty_database.read_bytes()[:10_000])
    killed[0].mkdir()
    assert not orphaned_folders(store), "what cannot be asked may know them"
    (store.home / "torn.db").unlink()
    assert orphaned_folders(store) == killed[:1]


def test_doctor_reports_and_removes_them(
    store: Store, killed: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for arguments in ((), ("--fix",), ()):
        doctor.main(["--only", "store", *arguments])
        told.append(" ".join(capsys.readouterr().out.split()))
    assert "3 folders of runs that were never written" in told[0]
    assert "3 folders of runs that were never written removed" in told[1]
    assert "never written" not in told[2]
    assert not any(folder.exists() for folder in killed)
