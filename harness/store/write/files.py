"""A run's small files: written in place where its folder is on this machine, else uploaded."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.store.retry import with_retries


def store_files(artifacts: str, uri: str, contents: Mapping[str, str | Mapping[str, Any]]) -> None:
    """Store files by their path in the run; a mapping as JSON.

    artifacts: where the run's files go, as MLflow writes it. uri: the store's. Raises StoreError.
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


def _write(home: Path, contents: Mapping[str, str | Mapping[str, Any]]) -> None:
    """Each file whole or not at all."""
    for name, text in _texts(contents):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _texts(contents: Mapping[str, str | Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, content in contents.items():
        yield name, content if isinstance(content, str) else json.dumps(content, indent=1)
