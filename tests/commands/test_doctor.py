"""The doctor finds real damage, repairs what is safe, and changes nothing without --fix."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from harness import diagnostics, doctor
from harness.diagnostics import Status
from harness.store import names
from harness.store.artifacts.trial_files import write_weights
from harness.store.coordination import leases, processes
from harness.store.names import ARTIFACTS_COMPLETE
from harness.store.provenance import Moment
from harness.store.read.tables import TableReader
from harness.store.store import Store
from harness.store.write.outbox import Outbox
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, children, digits, done, made_outputs, make_plan, write

pytestmark = pytest.mark.usefixtures("store")


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Returns the exit code, and the output in one line."""
    code = doctor.main(["--only", "store", *arguments])
    output = capsys.readouterr()
    assert all(len(line) <= 80 for line in output.out.splitlines())
    return code, " ".join((output.out + output.err).split())


def assert_fixes(capsys: pytest.CaptureFixture[str], wrong: str, fixed: str) -> None:
    """Asserts that a fault is reported until --fix repairs it."""
    for _ in range(2):
        code, output = examine(capsys)
        assert code == 1
        assert wrong in output
        assert "nothing was changed" in output
    code, output = examine(capsys, "--fix")
    assert fixed in output
    assert code == 0, output
    code, output = examine(capsys)
    assert code == 0, output
    assert "no problems found" in output


@pytest.fixture
def database(store: Store) -> Path:
    assert store.database is not None
    return store.database


def test_a_healthy_store_is_well(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, make_plan([digits()]), {0: done()})
    code, output = examine(capsys)
    assert code == 0
    assert "ok test 1 trial" in output


def test_the_setup_is_examined(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main(["--only", "setup"])
    output = capsys.readouterr().out
    for check in ("python", "torch", "devices", "threads", "data", "disk"):
        assert f" {check} " in output
    assert "compatible" in output
    assert code == (1 if "wrong " in output else 0)


def test_a_wrong_set_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.setattr(diagnostics, "MIN_FREE_BYTES", 1 << 60)
    assert doctor.main(["--only", "setup"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "HARNESS_DATA names" in output
    assert "more threads than cores" in output
    assert "free some space" in output


def test_packages_that_are_asked_for_and_absent_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=2.0", "no-such-package>=1", "torch>=999", 'ray>=2; extra == "ray"']
    monkeypatch.setattr(metadata, "requires", lambda _: asked)
    found = list(diagnostics.check_packages())
    assert {finding.status for finding in found} == {Status.WRONG}
    output = " ".join(finding.text for finding in found)
    assert "no-such-package>=1 is not installed" in output
    assert "torch>=999 is required" in output
    assert "ray" not in output
    assert "numpy" not in output


DIES = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from tests.store.store_support import GOAL, digits, done, make_plan
from harness.store.store import open_store
from harness.store.write.sweep_writer import SweepWriter
plan = make_plan([digits()])
writer = SweepWriter(open_store(Path(sys.argv[1])), plan, GOAL)
writer.record(plan.trials[0], done()[0])
writer.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_dead_processes_are_reported_until_the_next_sweep_closes_them(
    store: Store, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = subprocess.run([sys.executable, "-c", DIES, str(workspace), json.dumps(sys.path)])
    assert ran.returncode == -signal.SIGKILL
    for arguments in ((), ("--fix",)):
        code, output = examine(capsys, *arguments)
        assert (code, "2 runs left RUNNING by dead processes" in output) == (1, True)
    with SweepWriter(store, make_plan([digits()]), GOAL):
        pass
    assert examine(capsys)[0] == 0
    assert children(store)["trial 0"].info.status == "KILLED"


def test_runs_of_live_processes_are_no_fault(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer:
        writer.record(plan.trials[0], done()[0])
        writer.commit()
        assert examine(capsys, "--fix")[0] == 0
        assert store.client.get_run(writer.run_id).info.status == "RUNNING"


def test_wait_says_whether_the_processes_of_other_machines_are_alive(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    writer = SweepWriter(store, make_plan([digits()]), GOAL)
    tag = json.dumps(json.loads(processes.process_tag()) | {"host": "elsewhere"})
    store.client.set_tag(writer.run_id, names.TAG_PROCESS, tag)
    code, output = examine(capsys, "--fix")
    assert (code, "--wait says" in output) == (0, True)
    code, output = examine(capsys, "--wait")
    assert (code, "1 harness of other machines died" in output) == (1, True)


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
    code, output = examine(capsys, "--fix")
    assert code == 1
    assert "state_dict.pt is damaged" in output
    assert "provenance.json is missing" in output
    assert "--rerun" in output


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
    assert_fixes(capsys, "3 values written twice", "3 repeated values removed")
    after = store.client.get_metric_history(run_id, "train/loss")
    assert [(p.step, p.value, p.timestamp) for p in after] == [
        (p.step, p.value, p.timestamp) for p in before
    ]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(again.replace("value,", "value + 1,", 1))
    code, output = examine(capsys, "--fix")
    assert (code, "with two different values" in output) == (1, True)


def test_the_search_for_repeated_values_takes_linear_time(
    store: Store, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of SQLite's machine, by the thousand: ten times the values, some ten times those."""
    write(store, make_plan([digits()]), {0: done()})
    steps = [0]
    connect = sqlite3.connect

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
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
            assert TableReader(database).repeated_values() == (0, 0)
        taken.append(steps[0])
    assert taken[1] < 20 * taken[0]


def test_the_newest_of_several_finished_runs_counts(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan([digits()])
    for _ in range(2):
        write(store, plan, {0: done()})
    found = store.client.search_runs([store.experiment("test")])
    for run in found:
        if names.TAG_SUPERSEDED in run.data.tags:
            store.client.delete_tag(run.info.run_id, names.TAG_SUPERSEDED)
    assert_fixes(capsys, "1 trial with several finished runs", "1 older run marked as superseded")


def test_trials_in_the_outbox_are_reported(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Outbox(store.outbox(store.experiment("mine")))
    box.put("aa", [(done()[-1], Moment.now())])
    code, output = examine(capsys, "--fix")
    assert code == 1, "only the sweep can write them"
    assert "1 trial trained while the store was away: run the same sweep again" in output
    assert list(box.trial_ids()) == ["aa"]


def test_half_written_files_of_dead_processes_are_removed(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace / "mlruns" / "checkpoints" / "1" / "line" / "trial"
    folder.mkdir(parents=True)
    dead = folder / "000003-000000000.4194304.partial"
    alive = folder / f"000004-000000000.{os.getpid()}.partial"
    for path in (dead, alive):
        path.write_bytes(b"half")
    assert_fixes(capsys, "1 file half written by dead processes", "1 half-written file removed")
    assert not dead.exists()
    assert alive.exists()


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
    code, output = examine(capsys, "--fix")
    assert code == 1
    assert "is damaged" in output
    assert "Traceback" not in output


def test_bad_input_is_told(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(capsys, "nothing")[0] == 2
    assert examine(capsys, "--store", f"sqlite:///{workspace}/absent.db")[0] == 2
    shutil.rmtree(workspace / "mlruns")
    (workspace / "mlruns").mkdir()
    code, output = examine(capsys)
    assert (code, "no results yet" in output) == (0, True)
    assert not list((workspace / "mlruns").iterdir()), "looking makes no store"
