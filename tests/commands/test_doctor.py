"""The doctor finds real damage, mends what it may, and changes nothing unasked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness import doctor
from harness.core.checksummed import write_checksummed
from harness.diagnostics import setup
from harness.diagnostics.finding import State
from harness.execution.executors import worker_start
from harness.store import health, names
from harness.store.artifacts.trial_files import write_weights
from harness.store.coordination import leases, processes
from harness.store.names import ARTIFACTS_COMPLETE
from harness.store.store import Store
from harness.store.write.outbox import Outbox
from harness.store.write.run_log import Moment
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, children, digits, done, made_outputs, make_plan, write

pytestmark = pytest.mark.usefixtures("store")


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what is told in one line of words."""
    code = doctor.main(["--only", "store", *arguments])
    told = capsys.readouterr()
    assert all(len(line) <= 80 for line in told.out.splitlines())
    return code, " ".join((told.out + told.err).split())


def assert_mends(capsys: pytest.CaptureFixture[str], wrong: str, mended: str) -> None:
    """It is told, and stays until it is to be mended; then it is gone."""
    for _ in range(2):
        code, told = examine(capsys)
        assert code == 1
        assert wrong in told
        assert "nothing was changed" in told
    code, told = examine(capsys, "--fix")
    assert mended in told
    assert code == 0, told
    code, told = examine(capsys)
    assert code == 0, told
    assert "all is well" in told


@pytest.fixture
def database(store: Store) -> Path:
    assert store.database is not None
    return store.database


def test_a_healthy_store_is_well(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, make_plan([digits()]), {0: done()})
    code, told = examine(capsys)
    assert code == 0
    assert "ok test 1 trial" in told


def test_the_set_up_is_examined(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main(["--only", "setup"])
    told = capsys.readouterr().out
    for check in ("python", "torch", "devices", "threads", "data", "disk", "shared data"):
        assert f" {check} " in told
    assert "together" in told
    assert code == (1 if "wrong " in told else 0)


def test_a_wrong_set_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.setattr(setup, "LEAST_FREE", 1 << 60)
    assert doctor.main(["--only", "setup"]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "HARNESS_DATA names" in told
    assert "more threads than cores" in told
    assert "make room" in told


def test_packages_that_are_asked_for_and_absent_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=2.0", "no-such-package>=1", "torch>=999", 'ray>=2; extra == "ray"']
    monkeypatch.setattr(setup.metadata, "requires", lambda _: asked)
    found = list(setup.packages())
    assert {finding.state for finding in found} == {State.WRONG}
    told = " ".join(finding.what for finding in found)
    assert "no-such-package>=1 is not installed" in told
    assert "torch>=999 is asked for" in told
    assert "ray" not in told
    assert "numpy" not in told


DIES = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from tests.store.store_support import GOAL, digits, done, make_plan
from harness.store.store import open_store
from harness.store.write.sweep_writer import SweepWriter
plan = make_plan([digits()])
writer = SweepWriter(open_store(Path(sys.argv[1])), plan, GOAL)
writer.start_trial(plan.trials[0])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_the_dead_are_closed(
    store: Store, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = subprocess.run([sys.executable, "-c", DIES, str(workspace), json.dumps(sys.path)])
    assert ran.returncode == -signal.SIGKILL
    assert_mends(capsys, "2 runs left RUNNING by dead processes", "2 runs closed as interrupted")
    assert children(store)["trial 0"].info.status == "KILLED"


def test_the_living_are_left_alone(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer:
        writer.start_trial(plan.trials[0])
        assert examine(capsys, "--fix")[0] == 0
        assert store.client.get_run(writer.run_id).info.status == "RUNNING"


def test_other_machines_are_watched_where_asked(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    writer = SweepWriter(store, make_plan([digits()]), GOAL)
    tag = json.dumps(json.loads(processes.process_tag()) | {"host": "elsewhere"})
    store.client.set_tag(writer.run_id, names.TAG_PROCESS, tag)
    code, told = examine(capsys, "--fix")
    assert (code, "--wait tells" in told) == (0, True)
    code, told = examine(capsys, "--wait")
    assert (code, "1 harness of other machines died" in told) == (1, True)
    code, told = examine(capsys, "--wait", "--fix")
    assert (code, "runs of 1 dead harness closed" in told) == (0, True)
    assert store.client.get_run(writer.run_id).info.status == "KILLED"


def test_missing_and_damaged_files_of_finished_runs_are_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    write(store, plan, {0: done(), 1: done()})
    write_weights(tmp_path / "kept", made_outputs(plan.trials[0].trial))
    folders = []
    for run in children(store).values():
        store.client.log_artifacts(run.info.run_id, str(tmp_path / "kept"))
        store.client.set_tag(run.info.run_id, names.TAG_ARTIFACTS, ARTIFACTS_COMPLETE)
        folders.append(Path(run.info.artifact_uri.removeprefix("file://")))
    assert examine(capsys)[0] == 0
    weights = folders[0] / "weights" / "state_dict.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    (folders[1] / "provenance.json").unlink()
    code, told = examine(capsys, "--fix")
    assert code == 1
    assert "state_dict.pt is damaged" in told
    assert "provenance.json is missing" in told
    assert "--rerun" in told


def test_what_was_written_twice_is_removed_and_what_differs_is_told(
    store: Store, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(store, make_plan([digits()]), {0: done()})
    run_id = children(store)["trial 0"].info.run_id
    before = store.client.get_metric_history(run_id, "train/loss")
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(metrics)")]
        picked = ", ".join("timestamp + 5" if name == "timestamp" else name for name in columns)
        again = f"INSERT INTO metrics SELECT {picked} FROM metrics WHERE key = 'train/loss'"
        connection.execute(again)
    assert_mends(capsys, "3 values written twice", "3 repeated values removed")
    after = store.client.get_metric_history(run_id, "train/loss")
    assert [(p.step, p.value, p.timestamp) for p in after] == [
        (p.step, p.value, p.timestamp) for p in before
    ]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(again.replace("value,", "value + 1,", 1))
    code, told = examine(capsys, "--fix")
    assert (code, "with two different values" in told) == (1, True)


def test_looking_for_values_written_twice_takes_as_long_as_there_are_values(
    store: Store, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of SQLite's machine, by the thousand: ten times the values, some ten times those."""
    write(store, make_plan([digits()]), {0: done()})
    steps = [0]
    connect = sqlite3.connect

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 1000)
        return connection

    taken = []
    for count in (2_000, 20_000):
        with closing(connect(database)) as connection, connection:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT OR IGNORE INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
                "SELECT 'many', i, 1000 + i, (SELECT run_uuid FROM runs LIMIT 1), i, 0 FROM n",
                (count,),
            )
        steps[0] = 0
        with monkeypatch.context() as patched:
            patched.setattr(sqlite3, "connect", counting)
            assert health.repeated_values(database) == (0, 0)
        taken.append(steps[0])
    assert taken[1] < 20 * taken[0]


def test_a_trial_that_stands_twice_counts_once(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan([digits()])
    for _ in range(2):
        write(store, plan, {0: done()})
    found = store.client.search_runs([store.experiment("test")])
    for run in found:
        if names.TAG_SUPERSEDED in run.data.tags:
            store.client.delete_tag(run.info.run_id, names.TAG_SUPERSEDED)
    assert_mends(capsys, "1 trial with several finished runs", "1 older run marked as superseded")


def test_what_waits_in_the_outbox_is_told_and_what_is_damaged_set_aside(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Outbox(store.outbox("1"))
    for trial_id in ("aa", "bb"):
        path = box.put(trial_id, Moment.now(), [])
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    code, told = examine(capsys, "--fix")
    assert code == 1, "what waits is for the sweep to write"
    assert "1 damaged file renamed" in told
    assert "1 trial trained while the store was away: run the same sweep again" in told
    assert list(box.held()) == ["aa"]
    assert path.with_name("bb.trial.damaged").is_file()


def test_damaged_checkpoints_and_half_written_files_are_found(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace / "mlruns" / "checkpoints" / "1" / "line" / "trial"
    for name in ("000001-000000000.pt", "000002-000000000.pt"):
        write_checksummed(folder / name, {"epoch": 1})
    torn = folder / "000002-000000000.pt"
    torn.write_bytes(torn.read_bytes()[:-10])
    left = folder / "000003-000000000.4194304.partial"
    left.write_bytes(b"half")
    living = folder / f"000004-000000000.{os.getpid()}.partial"
    living.write_bytes(b"half")
    assert_mends(capsys, "1 file of 2 damaged", "1 damaged file renamed")
    assert not left.exists()
    assert living.exists()


def test_shared_data_of_killed_processes_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_start, "MEMORY", tmp_path)
    monkeypatch.setattr(worker_start, "homes", lambda: (tmp_path,))
    monkeypatch.setattr(worker_start, "YOUNG_SECONDS", 0.0)
    assert setup.shared_memory().state is State.OK
    left = tmp_path / "harness-data-x"
    left.mkdir()
    (left / "owner").touch()
    finding = setup.shared_memory()
    assert finding.state is State.WRONG
    assert finding.mend is not None
    finding.mend()
    assert not left.exists()


def test_a_damaged_database_is_told(
    store: Store, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(store, make_plan([digits()]), {0: done()})
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        row = "SELECT rootpage FROM sqlite_schema WHERE name = 'metrics'"
        page = connection.execute(row).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 512)
    code, told = examine(capsys, "--fix")
    assert code == 1
    assert "is damaged" in told
    assert "Traceback" not in told


def test_bad_input_is_told(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(capsys, "nothing")[0] == 2
    assert examine(capsys, "--store", f"sqlite:///{workspace}/absent.db")[0] == 2
    shutil.rmtree(workspace / "mlruns")
    (workspace / "mlruns").mkdir()
    code, told = examine(capsys)
    assert (code, "no results yet" in told) == (0, True)
    assert not list((workspace / "mlruns").iterdir()), "looking makes no store"
