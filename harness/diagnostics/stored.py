"""Examines what is stored: the database, its runs and files, and what lies beside the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from harness.core.text import join_with_and, plural
from harness.diagnostics.checkpoints import checkpoints, damage, set_aside
from harness.diagnostics.finding import Finding, note, ok, wrong
from harness.store import health
from harness.store.coordination.leases import close_expired
from harness.store.coordination.stale_runs import (
    close_dead_runs,
    orphaned_folders,
    remove_orphaned_folders,
)
from harness.store.read.runs import StoredRun
from harness.store.store import Store

SHOWN = 3
"""Examples named of many faults alike."""


def examine(store: Store, names: list[str], wait: bool = False) -> Iterator[Finding]:
    """Each check in turn. names: of experiments. wait: watch the leases of other machines."""
    yield from database(store)
    ids = health.experiments(store)
    for name in names:
        yield from experiment(store, name, ids[name], wait)
    yield from checkpoints(store, ids)
    yield from strange_files(store)
    yield from beside(store.home)


def database(store: Store) -> Iterator[Finding]:
    if store.database is None:
        yield ok("store", f"{store.label} answers")
        return
    found = health.damage(store.database)
    if found:
        told = f"{store.database} is damaged: {found}"
        yield wrong(
            "store", f"{told}; restore a copy of it (sqlite3 FILE .recover saves what it can)"
        )
        return
    yield ok("store", f"{store.database}, sound")
    same, other = health.repeated_values(store.database)
    if same:
        told = f"{plural(same, 'value')} written twice for one run, metric and step"
        yield wrong("values", told, partial(_remove_repeated, store.database))
    if other:
        told = f"{plural(other, 'step')} of a run's metric with two different values"
        yield wrong("values", f"{told}: which is right is not known; run those trials with --rerun")
    if not same and not other:
        yield ok("values", "each run, metric and step has one")


def _remove_repeated(database: Path) -> str:
    return f"{plural(health.remove_repeated_values(database), 'repeated value')} removed"


def experiment(store: Store, name: str, experiment_id: str, wait: bool) -> Iterator[Finding]:
    """One experiment's runs and files."""
    found = health.trials(store, experiment_id)
    faults = [*_running(store, name, experiment_id, wait), *_runs(store, name, found)]
    yield from faults or [ok(name, plural(len(found.runs), "trial"))]


def _running(store: Store, name: str, experiment_id: str, wait: bool) -> Iterator[Finding]:
    dead, foreign = health.count_stale_runs(store, experiment_id)
    if dead:
        yield wrong(
            name,
            f"{plural(dead, 'run')} left RUNNING by dead processes",
            partial(_close_dead, store, experiment_id),
        )
    if foreign and not wait:
        told = f"{plural(foreign, 'run')} of other machines: --wait tells whether these live"
        yield note(name, told)
    elif foreign:
        expired = close_expired(store, experiment_id, close=False)
        if expired:
            told = f"{plural(len(expired), 'harness', 'harnesses')} of other machines died"
            yield wrong(name, told, partial(_close_expired, store, experiment_id, expired))
        else:
            yield note(name, f"{plural(foreign, 'run')} of other machines, which live")


def _close_dead(store: Store, experiment_id: str) -> str:
    return f"{plural(close_dead_runs(store, experiment_id), 'run')} closed as interrupted"


def _close_expired(store: Store, experiment_id: str, expired: list[str]) -> str:
    close_expired(store, experiment_id, close=True, known=expired)
    return f"runs of {plural(len(expired), 'dead harness', 'dead harnesses')} closed as interrupted"


def _runs(store: Store, name: str, found: health.TrialRuns) -> Iterator[Finding]:
    twice = health.duplicates(found)
    if twice:
        yield wrong(
            name,
            f"{plural(len(twice), 'trial')} with several finished runs",
            partial(_supersede, store, twice),
        )
    bad = list(health.damaged_files(store, found))
    if bad:
        yield wrong(name, f"{_examples(bad)}: --rerun these trials")


def _supersede(store: Store, twice: Mapping[str, list[StoredRun]]) -> str:
    count = health.supersede_older(store, twice)
    return f"{plural(count, 'older run')} marked as superseded; the newest counts"


def strange_files(store: Store) -> Iterator[Finding]:
    found = orphaned_folders(store)
    if found:
        told = f"{plural(len(found), 'folder')} of runs that were never written: {found[0]}"
        yield wrong("left over", told, partial(_remove_strays, store))


def _remove_strays(store: Store) -> str:
    count = remove_orphaned_folders(store)
    return f"{plural(count, 'folder')} of runs that were never written removed"


def beside(home: Path) -> Iterator[Finding]:
    """Folders beside the store: what waits there, what is left over."""
    yield from _waiting(home)
    left = health.partial_files([home])
    if left:
        told = f"{plural(len(left), 'file')} half written by dead processes: {left[0].name}"
        yield wrong("left over", told, partial(_remove, left))


def _waiting(home: Path) -> Iterator[Finding]:
    for kind, what, way in (
        ("outbox", "trained while the store was away", "run the same sweep again to write them"),
        ("spool", "whose figures are still to be drawn", "the same sweep draws them at its end"),
    ):
        files = sorted((home / kind).rglob("*.trial")) + sorted((home / kind).rglob("*.pt"))
        sound = [path for path in files if not damage(path)]
        bad = [path for path in files if path not in sound]
        if bad:
            told = f"{plural(len(bad), 'file')} damaged: {bad[0].name}"
            yield wrong(kind, f"{told}; those trials are trained again", partial(set_aside, bad))
        if sound:
            told = f"{plural(len(sound), 'trial')} {what}: {way}"
            yield wrong(kind, told) if kind == "outbox" else note(kind, told)


def _remove(files: list[Path]) -> str:
    for path in files:
        path.unlink(missing_ok=True)
    return f"{plural(len(files), 'half-written file')} removed"


def _examples(sentences: list[str]) -> str:
    more = len(sentences) - SHOWN
    return join_with_and(sentences[:SHOWN]) + (f" and {more} more" if more > 0 else "")
