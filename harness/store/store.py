"""Opens the MLflow store: the project's SQLite file, or what `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.core.errors import NoResults, Problem, StoreError, did_you_mean
from harness.store.creation import artifacts_of, count_runs, create_if_missing, opening_lock
from harness.store.identity import (
    has_experiment,
    identity_of,
    is_of_earlier_version,
    new_identity,
    owns_numbered_folders,
)
from harness.store.long_values import longest_tag, restore, shorten
from harness.store.read.runs import ClientReader, MetricPoint, RunSummary, StoredRun
from harness.store.read.tables import TableReader
from harness.store.retry import describe_error, with_retries
from harness.store.uris import (
    DEFAULT_FILE,
    database_of,
    default_uri,
    redact,
    scheme,
    sqlite_uri,
    store_folder,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")

ANSWER_SECONDS = 5
"""How long a server may take for its first answer."""
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
"""Kinds of store that MLflow opens, by the scheme of their addresses."""
MLFLOW_SETTINGS = {
    # No usage statistics leave this machine.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment variables that MLflow reads when it is first imported."""


@dataclass(frozen=True)
class Store:
    """An open store. Every method raises StoreError if the store cannot be read or written.

    uri: with its credentials; it is never shown.
    home: the folder for the files that the harness keeps beside the store.
    database: the SQLite file, or None for a server.
    artifacts: where new experiments keep their files, or None if the server decides.
    """

    uri: str
    client: MlflowClient
    home: Path
    database: Path | None
    artifacts: str | None
    _folders: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The address without its secrets, or a file's path where the address would be quoted."""
        return str(self.database) if self.database and "%" in self.uri else redact(self.uri)

    def experiment(self, name: str, create: bool = True) -> str:
        """Returns the id of the experiment of this name.

        create: whether to create it if it does not exist; else that raises StoreError.
        """
        read = f"read {self.label}"
        experiment = with_retries(read, self.client.get_experiment_by_name, name)
        if experiment is None:
            if create:
                return self._create(name)
            known = with_retries(read, self.client.search_experiments)
            others = [other.name for other in known if other.name != "Default"]
            raise StoreError(
                f"no experiment is named {name!r} in {self.label}; {did_you_mean(name, others)}"
            )
        if experiment.lifecycle_stage != "active":
            raise StoreError(
                f"the experiment {name!r} was deleted in MLflow, and its name is still taken: "
                f"restore it (mlflow experiments restore -x {experiment.experiment_id}), "
                "purge it (mlflow gc), or give the new one another name"
            )
        return str(experiment.experiment_id)

    def latest_runs(self, experiment_id: str) -> dict[str, RunSummary]:
        """Returns the latest run of each trial, whatever its outcome, by trial id. Superseded runs
        are left out."""
        return self._read(lambda reader: reader.latest_runs(experiment_id))

    def latest_run(self, experiment_id: str, trial_id: str) -> RunSummary | None:
        """Returns the latest run of one trial. trial_id: hexadecimal."""
        if not trial_id.isalnum():
            raise ValueError(f"not a trial's id: {trial_id!r}")
        return ClientReader(self).latest_runs(experiment_id, trial_id).get(trial_id)

    def finished_by_code(self, experiment_id: str) -> dict[str, int]:
        """Returns how many finished trials have each value of the tag of a user's code."""
        return self._read(lambda reader: reader.finished_by_code(experiment_id))

    def runs(self, experiment_id: str) -> list[StoredRun]:
        """Returns all runs of an experiment that are not deleted, the oldest first."""
        return list(restore(self, self._read(lambda reader: reader.runs(experiment_id))))

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """Returns all points of these metrics of these runs, in any order."""
        return self._read(lambda reader: reader.histories(run_ids, metrics))

    def run(self, run_id: str) -> Run:
        """Returns a run as MLflow has it."""
        return with_retries(f"read {self.label}", self.client.get_run, run_id)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Writes a tag of a run, which may have ended."""
        short, files = shorten({name: value}, longest_tag())
        for path, text in files.items():
            self.attach(run_id, path, text)
        with_retries("write to a run", self.client.set_tag, run_id, name, short[name])

    def attach(self, run_id: str, name: str, text: str) -> None:
        """Stores `text` as the file `name` of a run, which may have ended, in place of an earlier
        one."""
        with_retries("store a run's file", self.client.log_text, run_id, text, name)

    def pending_outputs(self, experiment_id: str) -> Path:
        """The folder of trial outputs whose artifacts are stored when their sweep ends."""
        return self.home / "spool" / self._folder(experiment_id)

    def outbox(self, experiment_id: str) -> Path:
        """The folder of trials that ended while the store did not answer."""
        return self.home / "outbox" / self._folder(experiment_id)

    def checkpoints(self, experiment_id: str) -> Path:
        """The folder of an experiment's checkpoints: those of trials in training, and the last
        ones of trials that are done."""
        return self.home / "checkpoints" / self._folder(experiment_id)

    @property
    def claims_folder(self) -> Path:
        """The folder of all `claims_file` and `writers_file`."""
        return self.home / "claims"

    def claims_file(self, experiment_id: str) -> Path:
        """The file by whose locks processes claim an experiment's trials."""
        return self.claims_folder / self._folder(experiment_id)

    def writers_file(self, experiment_id: str) -> Path:
        """The file by whose locks the processes that write an experiment see each other."""
        return self.claims_folder / f"{self._folder(experiment_id)}.writers"

    def journal(self, experiment: str) -> str:
        """Returns the name of the journal of an experiment's studies. The experiment is created if
        it does not exist."""
        read = f"read {self.label}"
        found = with_retries(read, self.client.get_experiment, self.experiment(experiment))
        if is_of_earlier_version(found):  # Which shared one journal by name.
            default = self.home / DEFAULT_FILE
            if self.database is not None:
                is_ours = owns_numbered_folders(self.database)
            else:
                is_ours = not has_experiment(default, experiment)
            if is_ours:
                return experiment
        return f"{experiment}-{identity_of(found)}"

    def _read(self, query: Callable[[TableReader | ClientReader], T]) -> T:
        if self.database is not None:
            # The tables of another MLflow release are left to MLflow, which is slower.
            with suppress(sqlite3.Error):
                return query(TableReader(self.database))
        return query(ClientReader(self))

    def _folder(self, experiment_id: str) -> str:
        """Returns the name of an experiment's files, which no other store's experiment has."""
        if experiment_id not in self._folders:
            read = f"read {self.label}"
            experiment = with_retries(read, self.client.get_experiment, experiment_id)
            number = re.sub(r"[^\w-]", "_", experiment_id)
            name = None
            if is_of_earlier_version(experiment):
                name = self._folder_of_earlier_version(number)
            self._folders[experiment_id] = name or f"{number}-{identity_of(experiment)}"
        return self._folders[experiment_id]

    def _folder_of_earlier_version(self, number: str) -> str | None:
        if self.database is not None:
            return number if owns_numbered_folders(self.database) else None
        name = f"{hashlib.sha256(self.label.encode()).hexdigest()[:12]}-{number}"
        return name if (self.claims_folder / name).exists() else None

    def _create(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        create = self.client.create_experiment
        try:
            return str(create(name, artifact_location=self.artifacts, tags=new_identity()))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                message = f"cannot create the experiment {name!r}: {describe_error(error)}"
                raise StoreError(message) from None
        return self.experiment(name, create=False)  # Another process was faster.


def open_store(root: Path | None = None, uri: str | None = None) -> Store:
    """Opens the store. A SQLite file that does not exist is created.

    root: the project's folder, by default `paths.project_root()`; the default store is
    `sqlite:///<root>/mlruns/mlflow.db`.
    uri: instead of `MLFLOW_TRACKING_URI` and of the default.
    Raises StoreError, at once if a server does not answer.
    """
    uri = uri or default_uri(root)
    configure_mlflow()
    kind = scheme(uri)
    if kind == "sqlite":
        return _open_database(uri)
    if kind in ("", "file"):
        if kind == "" and Path(uri).is_file():
            raise StoreError(f"{uri} is no address: use sqlite:///{uri}")
        raise StoreError(
            f"MLflow no longer keeps runs in plain folders ({redact(uri)}): "
            "use sqlite:///<path of a file> or a server's http(s) address\n"
            "    `mlflow migrate-filestore` makes a file of such a folder"
        )
    if kind not in SCHEMES:
        raise StoreError(
            f"no store is of the kind of {redact(uri)}: {kind!r}; {did_you_mean(kind, SCHEMES)}"
        )
    return _open_server(uri, store_folder(root))


def open_existing_store(uri: str | None = None) -> Store:
    """Opens a store for reading: `uri`, or the default one. Unlike `open_store`, raises InputError
    if its file does not exist."""
    address = uri or default_uri()
    path = database_of(address)
    if path is not None and not path.is_file():
        hint = (
            "run a sweep first; for another project's results, run this in its folder, or set "
            "MLFLOW_TRACKING_URI to its store (sqlite:////…/mlruns/mlflow.db)"
        )
        raise NoResults(Problem(f"no results yet: {path} does not exist", hint=hint))
    return open_store(uri=uri)


def latest_runs_without_mlflow(
    experiment: str, root: Path | None = None
) -> Mapping[str, RunSummary] | None:
    """Returns `Store.latest_runs` of an experiment without importing MLflow, which takes seconds.

    Returns None if that is impossible: for a server, and for tables that MLflow has yet to upgrade.
    Changes nothing. root: see `open_store`.
    """
    database = database_of(default_uri(root))
    if database is None:
        return None
    if not database.exists():
        return {}
    tables = TableReader(database, busy_seconds=1.0)
    with suppress(sqlite3.Error):
        experiment_id = tables.experiment_id(experiment)
        return {} if experiment_id is None else tables.latest_runs(experiment_id)
    return None


def configure_mlflow() -> None:
    """Sets how MLflow logs and what it sends; to be called before its first import.

    Variables that the user set are left as they are.
    """
    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    # It prints a traceback for each try at a locked database; `with_retries` reports the error.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _open_database(uri: str) -> Store:
    path = database_of(uri)
    if path is None:
        raise StoreError(f"{uri}: a store needs a file, as in sqlite:///mlruns/mlflow.db")
    if "?" not in uri:  # MLflow keeps connections by address, also when the folder changes.
        uri = sqlite_uri(path)
    try:
        with opening_lock(path):
            create_if_missing(path)
            # With a write-ahead log, others can read while a run is written.
            with closing(sqlite3.connect(path, timeout=20)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            client = _connect(uri)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {error}") from error
    except StoreError as error:
        if count_runs(path) == 0:
            raise StoreError(f"{error}; python -m harness.doctor says how to mend it") from None
        raise
    return Store(uri, client, home=path.parent, database=path, artifacts=artifacts_of(path))


def _open_server(uri: str, home: Path) -> Store:
    first_answer = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
    }
    with _environment(first_answer):
        client = _connect(uri)
    # `with_retries` repeats calls and knows when to give up; MLflow's own 7 tries would hold one
    # call up for four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return Store(uri, client, home=home, database=None, artifacts=None)


def _connect(uri: str) -> MlflowClient:
    """Returns a client after its store has answered one request."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        message = f"the store {redact(uri)} does not answer: {describe_error(error)}"
        raise StoreError(message) from None
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        message = f"cannot open the store {redact(uri)}: {describe_error(error)}"
        raise StoreError(message) from None
    return client


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
