"""Params and tags that are longer than MLflow allows: each is a file of its run.

The param or tag holds the file's path, whose name is the SHA-256 of the value. So equal values are
equal in MLflow's UI too, and a value that was cut or lost is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.errors import StoreError
from harness.store import names
from harness.store.read.run_files import read_text

if TYPE_CHECKING:
    from harness.store.read.runs import StoredRun
    from harness.store.store import Store

FOLDER = "long_values"
_PATH = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})\.txt")


def longest_param() -> int:
    """Returns how many characters a param may have in the installed MLflow."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    return int(MAX_PARAM_VAL_LENGTH)


def longest_tag() -> int:
    """Returns how many characters a tag may have in the installed MLflow."""
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    return int(MAX_TAG_VAL_LENGTH)


def shorten(values: Mapping[str, str], longest: int) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the values with a path in place of each that is too long, and the files by path.

    MLflow's own tags, which are for people alone, are cut instead.
    """
    short, files = dict(values), {}
    for name, value in values.items():
        if len(value) <= longest:
            continue
        if name.startswith("mlflow."):
            short[name] = value[: longest - 1] + "…"
        else:
            short[name] = _path_of(value)
            files[short[name]] = value
    return short, files


def restore(store: Store, runs: Iterable[StoredRun]) -> Iterator[StoredRun]:
    """Yields runs with their long values in place. Equal values are read once.

    Earlier releases left the tag of a long trial out; it is then read from the run's provenance.
    Raises StoreError for a value of a finished run that is lost.
    """
    known: dict[str, str] = {}
    for run in runs:
        is_trial = run.tags.get(names.TAG_KIND) == names.TRIAL
        lacks_trial = is_trial and names.TAG_TRIAL not in run.tags and bool(run.artifacts)
        if lacks_trial and (trial := _trial_of_provenance(store, run)):
            run = replace(run, tags={**run.tags, names.TAG_TRIAL: trial})
        paths = {v for values in (run.params, run.tags) for v in values.values() if is_path(v)}
        for path in paths - known.keys():
            value = read_value(store, run.run_id, run.artifacts, path)
            if value is not None:
                known[path] = value
            elif names.TAG_OUTCOME in run.tags:
                raise StoreError(f"run {run.run_id} of {store.label}: {path} is missing or damaged")
        if paths:
            params, tags = (
                {k: known.get(v, v) for k, v in values.items() if v in known or not is_path(v)}
                for values in (run.params, run.tags)
            )
            run = replace(run, params=params, tags=tags)
        yield run


def is_path(value: str) -> bool:
    """Whether a param or a tag holds the path of its value."""
    return value.startswith(FOLDER) and _PATH.fullmatch(value) is not None


def read_value(store: Store, run_id: str, artifacts: str, path: str) -> str | None:
    """Returns a run's long value; None if it is missing or damaged."""
    try:
        value = read_text(store, run_id, artifacts, path)
    except (StoreError, OSError, ValueError):
        return None
    return value if path == _path_of(value) else None


def _path_of(value: str) -> str:
    return f"{FOLDER}/{hashlib.sha256(value.encode()).hexdigest()}.txt"


def _trial_of_provenance(store: Store, run: StoredRun) -> str:
    try:
        text = read_text(store, run.run_id, run.artifacts, names.PROVENANCE_FILE)
        trial = json.loads(text).get("trial")
    except (StoreError, OSError, ValueError, AttributeError):
        return ""
    return json.dumps(trial) if isinstance(trial, dict) else ""
