from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import StoreError
from harness.core.records import Ended, Outcome
from harness.store.read.runs import ClientReader
from harness.store.store import Store, open_store
from harness.store.uris import redact, scheme
from tests.store.store_support import children, digits, done, failed, make_plan, runs, write

OPEN_AND_CREATE = """
import sys
from pathlib import Path
from harness.store.store import open_store
store = open_store(Path(sys.argv[1]))
number = store.experiment("race")
print(number, store.latest_runs(number), "torch" in sys.modules)
"""


@pytest.mark.slow
def test_processes_that_open_a_fresh_store_at_once_agree_quietly_and_without_torch(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", OPEN_AND_CREATE, str(tmp_path)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(process.communicate(timeout=120), process.returncode) for process in started]
    assert [code for _, code in ends] == [0, 0], ends
    assert {out.strip() for (out, _), _ in ends} == {"1 {} False"}
    assert {err for (_, err), _ in ends} == {""}


def test_the_default_store_is_in_the_project(store: Store, workspace: Path) -> None:
    assert store.database == workspace / "mlruns" / "mlflow.db"
    experiment = store.client.get_experiment(store.experiment("x"))
    assert experiment.artifact_location == (workspace / "mlruns" / "artifacts").as_uri()


def test_the_environment_names_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert open_store(tmp_path / "elsewhere").database == store.database


def test_the_store_is_read_while_it_is_written(store: Store) -> None:
    import sqlite3

    assert store.database is not None
    mode = sqlite3.connect(store.database).execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "../../etc", "a/b", "=cmd()", "ü"])
def test_an_experiment_may_have_any_name(store: Store, workspace: Path, name: str) -> None:
    before = {path for path in workspace.rglob("*") if path.is_dir()}
    assert store.experiment(name) == store.experiment(name, create=False)
    assert {path for path in workspace.rglob("*") if path.is_dir()} == before


def test_an_unknown_experiment_error_names_the_closest(store: Store) -> None:
    store.experiment("mnist-optimizers")
    with pytest.raises(StoreError, match="did you mean 'mnist-optimizers'"):
        store.experiment("mnist-optimisers", create=False)


def test_a_deleted_experiment_is_an_error(store: Store) -> None:
    number = store.experiment("gone")
    store.client.delete_experiment(number)
    with pytest.raises(StoreError, match=f"restore it .*-x {number}"):
        store.experiment("gone")


def test_a_server_that_is_down_is_reported_at_once_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:hunter2@127.0.0.1:{port}")
    # A server that another test opened in this process has set it.
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path)
    assert caught.value.exit_code == 2
    assert f"http://***@127.0.0.1:{port}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("file:///tmp/mlruns", "no longer keeps runs in plain folders"),
        ("./mlruns", "no longer keeps runs in plain folders"),
        ("sqlite://", "a store needs a file"),
        ("gopher://bob:hunter2@host/", "gopher://***@host/"),
        ("foo://bar", "'foo'; allowed: databricks, http, https, mssql, mysql, postgresql, sqlite"),
        ("postgres://host/x", "did you mean 'postgresql'?"),
    ],
)
def test_an_unsupported_store_is_refused(uri: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path, uri)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"not a database " * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        open_store(uri=f"sqlite:///{tmp_path / 'junk.db'}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("https://bob:hunter2@host/x", "https://***@host/x"),
        ("postgresql+psycopg://bob:hun/t@er2@host/db", "postgresql+psycopg://***@host/db"),
        ("http://host/?user=bob&password=hunter2&x=1", "http://host/?user=bob&password=***&x=1"),
        ("s3://bucket?AccessToken=hunter2", "s3://bucket?AccessToken=***"),
        (
            "cannot reach http://a:b@h, then 'http://c:d@i'",
            "cannot reach http://***@h, then 'http://***@i'",
        ),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_scheme() -> None:
    uris = ("sqlite:///x", "postgresql+psycopg://h", "HTTPS://h", "/a/path", "mlruns")
    assert [scheme(uri) for uri in uris] == ["sqlite", "postgresql", "https", "", ""]


def test_latest_runs_are_the_same_from_tables_and_client(store: Store) -> None:
    plan = make_plan([digits(seed=seed) for seed in range(5)])
    stopped = [*done()[:3], Ended(Outcome.INTERRUPTED, {}, "stopped")]
    diverged = [*done()[:3], Ended(Outcome.DIVERGED, {}, "not finite")]
    write(store, plan, {0: done(0.8), 1: [failed()], 2: stopped, 3: diverged})
    write(store, plan, {0: done(0.9)})
    found = store.latest_runs(store.experiment("test"))
    assert found == ClientReader(store).latest_runs(store.experiment("test"))
    assert {key: run.outcome for key, run in found.items()} == {
        "0" * 16: Outcome.DONE,
        f"{1:016x}": Outcome.FAILED,
        f"{2:016x}": Outcome.INTERRUPTED,
        f"{3:016x}": Outcome.DIVERGED,
    }
    assert found["0" * 16].best == 0.9
    assert found["0" * 16].run_id == children(store)["trial 0"].info.run_id


def test_latest_runs_of_unknown_tables_are_read_by_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, make_plan([digits()]), {0: done()})
    monkeypatch.setattr("harness.store.read.tables._SUMMARIES", "SELECT * FROM of_another_release")
    assert store.latest_runs(store.experiment("test"))["0" * 16].outcome is Outcome.DONE


DIES_WHILE_IT_RUNS = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from tests.store.store_support import GOAL, digits, done, make_plan
from harness.store.store import open_store
from harness.store.write.sweep_writer import SweepWriter
plan = make_plan([digits(), digits(seed=1)])
writer = SweepWriter(open_store(Path(sys.argv[1])), plan, GOAL)
for record in done()[:3]:
    writer.record(plan.trials[0], record)
writer.flush(plan.trials[0])
writer.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_a_killed_process_are_closed_by_the_next_sweep(
    store: Store, workspace: Path
) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    arguments = [str(workspace), json.dumps(sys.path)]
    ran = subprocess.run([sys.executable, "-c", DIES_WHILE_IT_RUNS, *arguments], check=False)
    assert ran.returncode == -9
    assert {run.info.status for run in runs(store)} == {"RUNNING"}
    write(store, plan, {1: done()})
    parent, child = runs(store)[:2]
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    assert child.data.tags["harness.outcome"] == "interrupted"
    assert child.info.end_time - child.info.start_time < 60_000


def test_runs_of_a_live_process_stay_open(store: Store) -> None:
    from harness.store.write.sweep_writer import SweepWriter
    from tests.store.store_support import GOAL

    plan = make_plan([digits(), digits(seed=1)])
    first = SweepWriter(store, plan, GOAL)
    first.record(plan.trials[0], done()[0])
    first.commit()
    write(store, plan, {1: done()})
    assert sorted(run.info.status for run in runs(store)) == [
        "FINISHED",
        "FINISHED",
        "RUNNING",
        "RUNNING",
    ]
