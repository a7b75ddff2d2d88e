"""Opens the MLflow store: this project's SQLite file, or what `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import paths
from harness.core.errors import InputError, Problem, StoreError, did_you_mean
from harness.store.mlflow_settings import quiet
from harness.store.read.index import finished, finished_in_database, latest
from harness.store.read.runs import RunSummary
from harness.store.retry import describe_error, with_retries
from harness.store.uris import database_of, default_uri, redact, scheme, store_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 120.0
ANSWER_SECONDS = 5
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
"""Kinds of store that MLflow opens, by the beginning of their addresses."""


@dataclass(frozen=True)
class Store:
    """An open store. Every method raises StoreError where the store cannot be read or written.

    uri: with its credentials; never shown. home: the folder for what stands beside the store (the
    spool). database: the SQLite file, or None for a server. artifacts: where new experiments keep
    their files, or None where the server decides.
    """

    uri: str
    client: MlflowClient
    home: Path
    database: Path | None
    artifacts: str | None

    @property
    def label(self) -> str:
        """The address as people may see it."""
        return redact(self.uri)

    def experiment(self, name: str, create: bool = True) -> str:
        """The id of the experiment of this name.

        create: make it where it is absent; otherwise its absence raises StoreError.
        """
        found = with_retries(f"read {self.label}", lambda: self.client.get_experiment_by_name(name))
        if found is None:
            return self._create(name) if create else self._absent(name)
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"the experiment {name!r} was deleted in MLflow, and its name is still taken: "
                f"restore it (mlflow experiments restore -x {found.experiment_id}), "
                "purge it (mlflow gc), or give the new one another name"
            )
        return str(found.experiment_id)

    def latest_runs(self, experiment_id: str) -> dict[str, RunSummary]:
        """The latest run of each trial id that no later run replaces, whatever its outcome."""
        if self.database is not None:
            try:
                return finished_in_database(self.database, experiment_id)
            except sqlite3.Error:
                pass  # Another release's schema: MLflow's own reading is slower but knows it.
        return with_retries(f"read {self.label}", lambda: finished(self.client, experiment_id))

    def latest_run(self, experiment_id: str, trial_id: str) -> RunSummary | None:
        """One trial of `finished`; trial_id: hexadecimal."""
        if not trial_id.isalnum():
            raise ValueError(f"not a trial's id: {trial_id!r}")
        return with_retries(
            f"read {self.label}", lambda: latest(self.client, experiment_id, trial_id)
        )

    def pending_outputs(self, experiment_id: str) -> Path:
        """The folder where evidence of an experiment waits until its sweep ends."""
        return self.home / "spool" / self._folder(experiment_id)

    def outbox(self, experiment_id: str) -> Path:
        """The folder where an experiment's trials wait for a store that does not answer."""
        return self.home / "outbox" / self._folder(experiment_id)

    def checkpoints(self, experiment_id: str) -> Path:
        """The folder of what an experiment's trials in training go on from after an interruption,
        and of the last checkpoints of those that are done."""
        return self.home / "checkpoints" / self._folder(experiment_id)

    def claims_file(self, experiment_id: str) -> Path:
        """The file by which harnesses agree on who runs which trial of an experiment."""
        return self.home / "claims" / self._folder(experiment_id)

    @property
    def claims_folder(self) -> Path:
        """The folder of all `presence` files."""
        return self.home / "claims"

    def writers_file(self, experiment_id: str) -> Path:
        """The file by which writers of an experiment see that they are not alone."""
        return self.home / "claims" / f"{self._folder(experiment_id)}.writers"

    def _folder(self, experiment_id: str) -> str:
        name = re.sub(r"[^\w-]", "_", experiment_id)
        if self.database is None:
            # Two servers may both have an experiment 1.
            name = f"{hashlib.sha256(self.label.encode()).hexdigest()[:12]}-{name}"
        return name

    def _create(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.create_experiment(name, artifact_location=self.artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise StoreError(
                    f"cannot create the experiment {name!r}: {describe_error(error)}"
                ) from None
        return self.experiment(name, create=False)  # Another process was faster.

    def _absent(self, name: str) -> str:
        known = with_retries(
            f"read {self.label}",
            lambda: [experiment.name for experiment in self.client.search_experiments()],
        )
        raise StoreError(
            f"no experiment is named {name!r} in {self.label}; "
            + did_you_mean(name, (other for other in known if other != "Default"))
        )


def open_store(root: Path | None = None, uri: str | None = None) -> Store:
    """Open the store, creating it where it is a SQLite file that does not exist yet.

    root: the project's folder (`paths.project_root()`), for the default `sqlite:///<root>/mlruns/mlflow.db`.
    uri: instead of `MLFLOW_TRACKING_URI` and of the default. Raises StoreError at once where a
    server does not answer.
    """
    home = store_folder(root)
    uri = uri or default_uri(root)
    quiet()
    kind = scheme(uri)
    if kind == "sqlite":
        return _open_database(uri)
    if kind in ("", "file"):
        raise StoreError(
            f"MLflow no longer keeps runs in plain folders ({redact(uri)}): "
            "use sqlite:///<path of a file> or a server's http(s) address"
        )
    if kind not in SCHEMES:
        raise StoreError(
            f"no store is of the kind of {redact(uri)}: {kind!r}; {did_you_mean(kind, SCHEMES)}"
        )
    return _open_server(uri, home)


def open_existing_store(given: str | None = None) -> Store:
    """Open the store to read it, or the one that is given. Unlike `open_store`, raises InputError
    where its file is not there, in place of creating it."""
    default = f"sqlite:///{paths.project_root()}/mlruns/mlflow.db"
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or default
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not path.is_file():
        raise InputError(
            Problem(f"no results yet: {path} does not exist", hint="run a sweep first")
        )
    return open_store(uri=given)


def latest_runs_without_mlflow(
    experiment: str, root: Path | None = None
) -> Mapping[str, RunSummary] | None:
    """Returns the latest run of each trial of an experiment, read without importing MLflow.

    None where that is not possible: of a server, or of tables that MLflow has yet to upgrade.
    Changes nothing.

    root: as for `open_store`.
    """
    database = database_of(default_uri(root))
    if database is None:
        return None
    if not database.exists():
        return {}
    with suppress(sqlite3.Error):
        found = _identifier(database, experiment)
        return {} if found is None else finished_in_database(database, found)
    return None


def _identifier(database: Path, experiment: str) -> str | None:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as tables:
        query = "SELECT experiment_id FROM experiments WHERE name = ?"
        row = tables.execute(query, (experiment,)).fetchone()
    return None if row is None else str(row[0])


def _open_database(uri: str) -> Store:
    path = database_of(uri)
    if path is None:
        raise StoreError(f"{uri}: a store needs a file, as in sqlite:///mlruns/mlflow.db")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables at once break each other.
        with _locked(path.with_name(path.name + ".lock")):
            _write_ahead(path)
            client = _answering(uri)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {error}") from error
    artifacts = (path.parent / "artifacts").as_uri()
    return Store(uri, client, home=path.parent, database=path, artifacts=artifacts)


def _open_server(uri: str, home: Path) -> Store:
    hurry = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
    }
    with _environment(hurry):
        client = _answering(uri)
    # The harness tries again by itself, and knows when to give up; MLflow's own 7 tries hold one
    # call up for four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return Store(uri, client, home=home, database=None, artifacts=None)


def _answering(uri: str) -> MlflowClient:
    """A client whose store has answered one question."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise StoreError(
            f"the store {redact(uri)} does not answer: {describe_error(error)}"
        ) from None
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        raise StoreError(f"cannot open the store {redact(uri)}: {describe_error(error)}") from None
    return client


def _write_ahead(path: Path) -> None:
    """Let readers read while a run is written. File systems that cannot stay as they are."""
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it goes with the process that holds it."""
    with path.open("a+b") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _take(file):
            if time.monotonic() > deadline:
                raise StoreError(f"another process has been opening the store too long: {path}")
            time.sleep(0.05)
        yield


def _take(file: Any) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return _take_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_on_windows(file: Any) -> bool:
    import importlib

    msvcrt = importlib.import_module("msvcrt")
    try:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True
