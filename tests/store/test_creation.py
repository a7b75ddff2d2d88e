"""A store that was killed while it was created."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness import doctor
from harness.core.errors import StoreError
from harness.store.creation import count_runs
from harness.store.store import open_store
from tests.store.store_support import digits, done, make_plan, write

OPEN = """
import sys
from pathlib import Path
from harness.store.store import open_store
store = open_store(Path(sys.argv[1]))
print("opening", flush=True)
"""


@pytest.fixture
def half_made(workspace: Path, empty_database: Path) -> Path:
    """A store as a version before left it, killed during the first migration."""
    path = workspace / "mlruns" / "mlflow.db"
    shutil.copy(empty_database, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("DELETE FROM alembic_version")
        connection.execute("CREATE TABLE _alembic_tmp_experiments (experiment_id INTEGER)")
        connection.execute("DROP TABLE trace_info")
    assert revision
    return path


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = doctor.main(["--only", "store", *arguments])
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_doctor_makes_a_half_made_store_anew(
    half_made: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match=r"harness\.doctor says how to mend it"):
        open_store(workspace)
    before = half_made.read_bytes()
    code, output = examine(capsys)
    assert (code, half_made.read_bytes() == before) == (1, True), "nothing without --fix"
    assert "a process was killed while it made the store, which has no runs" in output
    code, output = examine(capsys, "--fix")
    assert (code, "made anew" in output) == (0, True), output
    assert half_made.with_name("mlflow.db.broken").read_bytes()[:15] == b"SQLite format 3"
    command = [sys.executable, "-m", "harness.doctor", "--only", "store"]  # As MLflow caches it.
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout


def test_doctor_never_makes_a_store_with_runs_anew(
    half_made: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(half_made)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, "
            "user_id, status, start_time, lifecycle_stage, experiment_id) "
            "VALUES ('a', 'a', 'LOCAL', '', '', '', 'FINISHED', 1, 'active', 0)"
        )
    before = half_made.read_bytes()
    code, output = examine(capsys, "--fix")
    assert code == 1
    assert "has 1 run: copy it, then try mlflow db upgrade sqlite:///" in output
    assert half_made.read_bytes() == before
    assert not half_made.with_name("mlflow.db.broken").exists()


@pytest.mark.parametrize("junk", [b"", b"SQLite format 3\0", b"not a database " * 100])
def test_what_is_no_store_is_no_half_made_store(junk: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(junk)
    assert count_runs(tmp_path / "x.db") is None
    assert count_runs(tmp_path / "absent.db") is None


def test_an_unfinished_file_is_removed_by_the_next_start(workspace: Path) -> None:
    folder = workspace / "mlruns"
    (folder / "mlflow.db.creating").write_bytes(b"half")
    (folder / "mlflow.db.creating-journal").write_bytes(b"half")
    (folder / "mlflow.db").touch()  # A version before left this if it was killed at once.
    store = open_store(workspace)
    write(store, make_plan([digits()]), {0: done()})
    assert not list(folder.glob("*.creating*"))


@pytest.mark.slow
def test_a_store_killed_at_any_moment_of_its_creation_can_be_opened(tmp_path: Path) -> None:
    began = time.monotonic()
    command = [sys.executable, "-c", OPEN]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    whole = time.monotonic() - began
    draw = random.Random(0)
    states = set()
    for number in range(6):
        project = tmp_path / str(number)
        process = subprocess.Popen([*command, str(project)])
        creating = project / "mlruns" / "mlflow.db.creating"
        while process.poll() is None and not creating.exists():
            time.sleep(0.001)
        time.sleep(draw.random() * whole / 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        states.add((creating.exists(), (project / "mlruns" / "mlflow.db").exists()))
        again = subprocess.run([*command, str(project)], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert not creating.exists()
    assert (True, False) in states, "some were killed in the middle"
