"""The rows written into MLflow's tables are those that MLflow's client writes."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import StoreError
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.experiment.plan import Plan
from harness.store import retry
from harness.store.provenance import Moment
from harness.store.store import Store, open_store
from harness.store.write import sql_backend
from harness.store.write.backend import ClientBackend
from harness.store.write.background import BackgroundWriter
from harness.store.write.sql_backend import COLUMNS, SqlBackend
from harness.store.write.sweep_writer import SweepWriter
from harness.store.write.trial_run import RunLog
from tests.store.store_support import (
    GOAL,
    by_client,
    digits,
    done,
    failed,
    make_plan,
    measured,
    points,
    runs,
    write,
)

BEGAN = Moment(1_700_000_000_000, 50.0)

SWEEP: dict[int, list[Record]] = {
    0: done(0.8),
    1: [*done()[:3], Ended(Outcome.DIVERGED, {}, "the loss was not finite in epoch 2")],
    2: [failed()],
    3: [
        Started({"device": "cpu", "exclusive": False}),
        measured(0, 0.1),
        Measured(1, {"val/loss": float("inf"), "train/loss": float("nan"), "lr": 1e-7}, 10),
        BatchLosses((64, 128, 128), (2.0, 1.5, 9.0)),
        measured(1, 0.3),
        measured(1, 0.4),  # an epoch recorded twice
        Measured(2, {"val/accuracy": 0.25, "odd. name/x-1 _": -1.5e300}, 20),
        Ended(Outcome.INTERRUPTED, {}, "stopped " + "é" * 2000),
    ],
    4: done(0.5),
}


def plan() -> Plan:
    """Returns a plan with trials of two data sets."""
    trials = [digits(seed=seed) for seed in range(4)] + [digits(dataset="iris")]
    return make_plan(trials, ["a", "b", "c <b>", "d", "ü"])


def sweeps(store: Store, flush: bool, commit: bool) -> None:
    """Two sweeps with trials side by side, a second between two records of each.

    flush: hand over each record's rows at once. commit: store what was handed over after each
    record, or all with one commit per sweep.
    """
    for records in (SWEEP, {2: done(0.6), 3: done(0.7), 0: done(0.9)}):
        with SweepWriter(store, plan(), GOAL) as writer:
            for step in range(max(map(len, records.values()))):
                at = Moment(BEGAN.utc + 1000 * step, BEGAN.steady + step)
                for number, yielded in records.items():
                    if step < len(yielded):
                        planned, record = plan().trials[number], yielded[step]
                        writer.record(planned, record, at, {"number": number})
                        if flush and not isinstance(record, Ended):
                            writer.flush(planned)
                        if commit:
                            writer.commit()


@pytest.mark.parametrize("flush", [True, False], ids=["record by record", "run by run"])
@pytest.mark.parametrize("commit", [True, False], ids=["at once", "in batches"])
def test_the_rows_are_those_of_mlflows_client(
    commit: bool,
    flush: bool,
    workspace: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[tuple[dict[str, Any], ...]] = []
    for name in ("client", "tables"):
        folder = workspace / name
        (folder / "mlruns").mkdir(parents=True)
        shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
        store = open_store(folder)
        if name == "client":
            with by_client(monkeypatch):
                sweeps(store, flush, commit=True)
        else:
            assert SqlBackend.of(store) is not None
            sweeps(store, flush, commit)
        found.append((rows(store, folder), api_view(store, folder), files(folder)))
    client, direct = found
    for mine, theirs in zip(direct, client, strict=True):
        assert mine.keys() == theirs.keys()
        for key in theirs:
            assert mine[key] == theirs[key], key
    assert len(client[0]["runs"]) == 10
    assert len(client[0]["metrics"]) > 50


def rows(store: Store, folder: Path) -> dict[str, list[Any]]:
    """Returns all rows of the written tables, with ids replaced by what they stand for."""
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as reader:
        names = run_names(reader)
        found = {}
        for table in COLUMNS:
            columns = sorted(COLUMNS[table])
            read = reader.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            plain = [
                [f"{c}={scrub(v, names, folder)}" for c, v in zip(columns, row, strict=True)]
                for row in read
            ]
            found[table] = sorted(without_clock(table, row) for row in plain)
    return found


def run_names(reader: sqlite3.Connection) -> dict[str, str]:
    """Returns what each id stands for: a run's name and start, or a data set's name."""
    names: dict[str, str] = {}
    query = "SELECT run_uuid, name, start_time FROM runs ORDER BY rowid"
    for run_id, name, start in reader.execute(query):
        label = "sweep" if name.startswith("sweep") else f"{name} {start}"
        names[run_id] = f"<{label} {sum(label in other for other in names.values())}>"
    names |= dict(reader.execute("SELECT dataset_uuid, name FROM datasets"))
    query = "SELECT input_uuid, source_id, destination_id FROM inputs"
    for link, source, run_id in reader.execute(query).fetchall():
        names[link] = f"{names[source]} of {names[run_id]}"
    return names


def scrub(value: Any, names: dict[str, str], folder: Path) -> str:
    text = f"{type(value).__name__} {value!r}".replace(str(folder), "<folder>")
    return re.sub("[0-9a-f]{32}", lambda found: names.get(found[0], found[0]), text)


def without_clock(table: str, row: list[str]) -> list[str]:
    """Leaves out the columns of parent runs that hold the time of writing."""
    if not any("<sweep" in cell or "'sweep 2" in cell for cell in row):
        return row
    clocks = ("timestamp=", "start_time=", "end_time=", "value=", "name=str 'sweep 2")
    return [cell for cell in row if not cell.startswith(clocks)]


def api_view(store: Store, folder: Path) -> dict[str, Any]:
    """Returns what MLflow's client reads of each trial."""
    found = {}
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as reader:
        names = run_names(reader)
    for run in runs(store):
        if run.data.tags["harness.kind"] == "trial":
            whole = run.to_dictionary()
            history = {name: points(store, run.info.run_id, name) for name in run.data.metrics}
            key = names[run.info.run_id]
            found[key] = scrub([whole["data"], whole["info"], history], names, folder)
    return found


def files(folder: Path) -> dict[str, str]:
    """Returns each trial's files; those of parents hold the time of writing."""
    found: dict[str, str] = {}
    for path in sorted((folder / "mlruns" / "artifacts").rglob("*")):
        if path.is_file() and path.name != "experiment.yaml":
            text = path.read_text()
            if '"trial_id"' in text or path.name == "traceback.txt":
                number = sum(text in other for other in found.values())
                found[f"{path.name} {hash(text)} {number}"] = text
    return found


def test_other_tables_are_left_to_mlflow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SqlBackend.of(store) is not None
    monkeypatch.setattr(sql_backend, "COLUMNS", {**COLUMNS, "tags": COLUMNS["tags"] | {"colour"}})
    assert SqlBackend.of(store) is None
    write(store, make_plan([digits()]), {0: done()})
    assert store.latest_runs(store.experiment("test"))["0" * 16].outcome is Outcome.DONE


def test_a_batch_is_written_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails half-way leaves nothing, and may be tried again."""
    backend = SqlBackend.of(store)
    assert backend is not None
    log = RunLog(backend, store.experiment("whole"), "a run", {"harness.kind": "trial"})
    log.metrics({"val/accuracy": 0.5}, 1)
    log.params({"lr": "0.1"})
    log.end("FINISHED")
    monkeypatch.setattr(retry, "PAUSES", ())
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_tables", _renamed(backend, "latest_metrics"))
        with pytest.raises(StoreError, match="no such table"):
            backend.commit()
    assert runs(store, "whole") == []
    backend.commit()
    (run,) = runs(store, "whole")
    assert (run.info.status, run.data.metrics, run.data.params) == (
        "FINISHED",
        {"val/accuracy": 0.5},
        {"lr": "0.1"},
    )
    assert backend.pending_rows == 0


def _renamed(backend: SqlBackend, name: str) -> dict[str, Any]:
    from sqlalchemy import MetaData

    gone = backend._tables[name].to_metadata(MetaData(), name="gone")
    return {**backend._tables, name: gone}


def test_a_repeated_commit_writes_nothing_twice(store: Store) -> None:
    """As after a connection that broke before the answer arrived."""
    backend = SqlBackend.of(store)
    assert backend is not None
    log = RunLog(backend, store.experiment("twice"), "a run", {"harness.kind": "trial"})
    log.metrics({"val/accuracy": 0.5}, 1)
    log.metrics({"val/accuracy": 0.4}, 2)
    log.end("FAILED")
    backend._commit()
    backend.commit()
    (run,) = runs(store, "twice")
    assert points(store, run.info.run_id, "val/accuracy") == [(1, 0.5), (2, 0.4)]
    assert run.data.metrics == {"val/accuracy": 0.4}


def test_a_name_that_mlflow_refuses_is_refused(store: Store) -> None:
    backend = SqlBackend.of(store)
    assert backend is not None
    log = RunLog(backend, store.experiment("named"), "a run", {})
    log.metrics({"a\nb": 0.5}, 1)
    with pytest.raises(StoreError, match="cannot write to a run"):
        log.flush()


def test_a_deleted_experiment_is_an_error(store: Store) -> None:
    experiment_id = store.experiment("gone")
    store.client.delete_experiment(experiment_id)
    backend = SqlBackend.of(store)
    assert backend is not None
    with pytest.raises(StoreError, match="'gone' was deleted"):
        RunLog(backend, experiment_id, "a run", {})


def test_a_burst_takes_few_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = []
    plain = SqlBackend._commit

    def counting(backend: SqlBackend) -> None:
        commits.append(backend.pending_rows)
        plain(backend)

    monkeypatch.setattr(SqlBackend, "_commit", counting)
    monkeypatch.setattr("harness.store.write.background.COMMIT_SECONDS", 1000.0)
    many = make_plan([digits(seed=seed) for seed in range(20)])
    with SweepWriter(store, many, GOAL) as writer, BackgroundWriter(writer) as background:
        for planned in many.trials:
            for record in done():
                background.record(planned, record)
    assert background.trials == 20
    assert len(commits) == 2, "what comes first is written at once, and the rest together"
    assert len(store.latest_runs(store.experiment("test"))) == 20


def test_mlflows_client_can_write_to_the_same_run(store: Store) -> None:
    """A call of the client between two batches."""
    backend = SqlBackend.of(store)
    assert backend is not None
    log = RunLog(backend, store.experiment("both"), "a run", {"harness.kind": "trial"})
    log.metrics({"val/loss": 0.5}, 1)
    log.flush()
    backend.commit()
    ClientBackend(store).write(
        log.run_id, [("val/loss", 0.3, BEGAN.utc, 2)], {"lr": "1"}, {"a": "b"}
    )
    log.metrics({"val/loss": 0.4}, 1)  # logged twice: the first counts
    log.metrics({"val/loss": 0.9}, 0)  # late: no newer than what there is
    log.end("FINISHED")
    backend.commit()
    (run,) = runs(store, "both")
    assert run.data.metrics == {"val/loss": 0.3}
    assert points(store, log.run_id, "val/loss") == [(0, 0.9), (1, 0.5), (2, 0.3)]
    assert (run.info.status, run.data.tags["a"], run.data.params["lr"]) == ("FINISHED", "b", "1")
