"""What may be wrong with a store, and what mends it; nothing here is called while a sweep runs
well."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from harness.core.errors import StoreError
from harness.core.records import FINISHED
from harness.store import names
from harness.store.artifacts.trial_files import WEIGHTS
from harness.store.coordination.processes import is_dead, is_on_this_host
from harness.store.coordination.stale_runs import running_runs
from harness.store.names import ARTIFACTS_COMPLETE
from harness.store.read.runs import StoredRun, read_runs
from harness.store.retry import with_retries
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class TrialRuns:
    """An experiment's trials' runs that no later run replaces."""

    experiment_id: str
    runs: tuple[StoredRun, ...]

    def finished(self) -> Iterator[StoredRun]:
        return (run for run in self.runs if run.tags.get(names.TAG_OUTCOME) in FINISHED)


def experiments(store: Store) -> dict[str, str]:
    """The id of each experiment that is not deleted, by its name; MLflow's own empty one is left
    out."""
    found = with_retries(f"read {store.label}", store.client.search_experiments)
    return {one.name: str(one.experiment_id) for one in found if one.name != "Default"}


def trials(store: Store, experiment_id: str) -> TrialRuns:
    found = read_runs(store, experiment_id)
    return TrialRuns(
        experiment_id,
        tuple(
            run
            for run in found
            if run.tags.get(names.TAG_KIND) == names.TRIAL and names.TAG_SUPERSEDED not in run.tags
        ),
    )


def damage(database: Path) -> str:
    """What SQLite finds wrong with the file; empty where it is sound."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as reader:
        try:
            found = [str(row[0]) for row in reader.execute("PRAGMA quick_check(3)")]
        except sqlite3.Error as error:
            return str(error)
    return "" if found == ["ok"] else "; ".join(found)


def count_stale_runs(store: Store, experiment_id: str) -> tuple[int, int]:
    """How many runs that MLflow shows as running belong to dead processes, and how many to other
    machines, of whose processes nothing is known here."""
    owners = [
        run.data.tags.get(names.TAG_PROCESS, "") for run in running_runs(store, experiment_id)
    ]
    return sum(map(is_dead, owners)), sum(not is_on_this_host(tag) for tag in owners)


def duplicates(found: TrialRuns) -> Mapping[str, list[StoredRun]]:
    """Trials that several finished runs stand for, the newest last."""
    by_trial: dict[str, list[StoredRun]] = defaultdict(list)
    for run in found.finished():
        by_trial[run.params.get(names.PARAM_TRIAL, run.run_id)].append(run)
    return {trial_id: runs for trial_id, runs in by_trial.items() if len(runs) > 1}


def supersede_older(store: Store, found: Mapping[str, list[StoredRun]]) -> int:
    """Let the newest of each stand alone, as readers have it anyway. Returns how many are left
    out from now on."""
    older = [(run.run_id, runs[-1].run_id) for runs in found.values() for run in runs[:-1]]
    for run_id, by in older:
        with_retries(
            "write to a run",
            lambda run_id=run_id, by=by: store.client.set_tag(  # type: ignore[misc]
                run_id, names.TAG_SUPERSEDED, by
            ),
        )
    return len(older)


def damaged_files(store: Store, found: TrialRuns) -> Iterator[str]:
    """What is missing or damaged among the files of finished runs, a sentence each."""
    for run in found.finished():
        wanted = ["provenance.json"]
        if run.tags.get(names.TAG_ARTIFACTS) == ARTIFACTS_COMPLETE:
            wanted.append(WEIGHTS)
        for name in wanted:
            why = _fault(store, run.run_id, name)
            if why:
                yield f"{run.name} (run {run.run_id[:8]}): {name} {why}"


def _fault(store: Store, run_id: str, name: str) -> str:
    """What is wrong with a run's file; only where the files lie on this machine is it read."""
    folder = _folder(store, run_id)
    if folder is None:
        try:
            return "" if _is_listed(store, run_id, name) else "is missing"
        except StoreError as error:
            return f"cannot be looked for: {error}"
    path = folder / name
    if not path.is_file():
        return "is missing"
    beside = path.with_name(path.name + ".sha256")
    if not beside.is_file():
        return ""
    told = beside.read_text(encoding="utf-8").split()[:1]
    return "" if told == [hashlib.sha256(path.read_bytes()).hexdigest()] else "is damaged"


def _folder(store: Store, run_id: str) -> Path | None:
    """Where a run's files lie, where that is a folder of this machine."""
    if store.artifacts is None:
        return None
    run = with_retries(f"read {store.label}", lambda: store.client.get_run(run_id))
    address = urlparse(run.info.artifact_uri)
    if address.scheme not in ("", "file"):
        return None
    return Path(unquote(address.path))


def _is_listed(store: Store, run_id: str, name: str) -> bool:
    folder = name.rpartition("/")[0] or None
    listed = with_retries(
        f"read {store.label}", lambda: store.client.list_artifacts(run_id, folder)
    )
    return name in {file.path for file in listed}


def repeated_values(database: Path) -> tuple[int, int]:
    """How many values a run has at a step that has one already: the same value, and another."""
    same = f"SELECT COUNT(*) FROM ({_SAME})"  # noqa: S608 - made of this module's constants
    steps = (
        "SELECT COUNT(*) FROM (SELECT 1 FROM metrics GROUP BY run_uuid, key, step "
        "HAVING COUNT(DISTINCT value) > 1)"
    )
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as reader:
        return (
            int(reader.execute(same).fetchone()[0]),
            int(reader.execute(steps).fetchone()[0]),
        )


def remove_repeated_values(database: Path) -> int:
    """Remove what says the same again; of each the earliest stays. Returns how many."""
    with closing(sqlite3.connect(database, timeout=20)) as writer, writer:
        return writer.execute(f"DELETE FROM metrics WHERE rowid IN ({_SAME})").rowcount  # noqa: S608


# One pass in the order of an index: a join of the table with itself takes minutes of a large store.
_SAME = """
SELECT number FROM (
    SELECT rowid AS number, ROW_NUMBER() OVER (
        PARTITION BY run_uuid, key, step, value, is_nan ORDER BY timestamp, rowid
    ) AS place FROM metrics
) WHERE place > 1
"""


def partial_files(folders: Iterable[Path]) -> list[Path]:
    """Files whose writing was cut short by the death of their process."""
    import psutil

    found = []
    for folder in folders:
        for path in folder.rglob("*.partial"):
            pid = path.name.split(".")[-2]
            if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
                found.append(path)
    return sorted(found)
