"""A run's small files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.store.retry import with_retries
from harness.store.store import Store

Contents = Mapping[str, str | Mapping[str, Any]]
"""Files by their path in the run: text, or a mapping that is stored as JSON."""


def store_files(artifacts: str, uri: str, contents: Contents) -> None:
    """Stores files with a run, in place if the run's folder is on this machine.

    artifacts: the URI of the run's files. uri: the store's address. Raises StoreError.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    # The client's own log_artifacts asks the store for the run before each upload.
    repository = get_artifact_repository(artifacts, tracking_uri=uri)
    if type(repository) is LocalArtifactRepository:
        home = Path(repository.artifact_dir)
        with_retries("store a run's files", lambda: _write(home, contents))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), contents)
        with_retries(
            "store a run's files",
            lambda: repository.log_artifacts(folder),  # type: ignore[no-untyped-call]
        )


def attach(store: Store, run_id: str, name: str, text: str) -> None:
    """Stores `text` as the file `name` of a run, which may have ended, in place of an earlier one.

    Raises StoreError.
    """
    with_retries("store the report", lambda: store.client.log_text(run_id, text, name))


def _write(home: Path, contents: Contents) -> None:
    """Writes each file whole or not at all."""
    for name, content in contents.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            text = content if isinstance(content, str) else json.dumps(content, indent=1)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
