"""Whose the files beside a store are: names that no two experiments of two stores share.

Several stores may keep their files in one folder, and each may have an experiment 1. An experiment
has a random identity among its tags, so that all addresses of a store lead to the same files.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store import names
from harness.store.read.tables import TableReader
from harness.store.uris import DEFAULT_FILE

if TYPE_CHECKING:
    from mlflow.entities import Experiment

_DATABASES = (".db", ".sqlite", ".sqlite3")


def new_identity() -> dict[str, str]:
    """Returns the tag of a new experiment."""
    return {names.TAG_IDENTITY: secrets.token_hex(6)}


def identity_of(experiment: Experiment) -> str:
    """Returns an experiment's identity. One that an earlier version created has no tag; then it
    follows from what never changes."""
    if names.TAG_IDENTITY in experiment.tags:
        return re.sub(r"\W", "_", experiment.tags[names.TAG_IDENTITY])
    unchanging = (experiment.experiment_id, experiment.creation_time, experiment.artifact_location)
    return hashlib.sha256(repr(unchanging).encode()).hexdigest()[:12]


def is_of_earlier_version(experiment: Experiment) -> bool:
    """Returns whether an earlier version created an experiment, whose files may have its names."""
    return names.TAG_IDENTITY not in experiment.tags


def owns_numbered_folders(database: Path) -> bool:
    """Returns whether the files that an earlier version named by an experiment's number alone count
    as this database's: those in a folder are of its `mlflow.db`, else of its first database."""
    default = database.with_name(DEFAULT_FILE)
    if default.is_file():
        return default.samefile(database)
    beside = sorted(path for path in database.parent.iterdir() if path.suffix in _DATABASES)
    return not beside or beside[0] == database


def has_experiment(database: Path, name: str) -> bool:
    """Returns whether a SQLite store has an experiment of this name."""
    with suppress(sqlite3.Error):
        return database.is_file() and TableReader(database).experiment_id(name) is not None
    return False
