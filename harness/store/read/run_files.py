"""Reads text files of runs, from the run's folder or through its server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.retry import with_retries
from harness.store.uris import local_path

if TYPE_CHECKING:
    from harness.store.store import Store


def read_text(store: Store, run_id: str, artifacts: str, name: str, longest: int = -1) -> str:
    """Returns a text file of a run, cut to `longest` characters if that is not negative.

    artifacts: the URI of the run's files. Raises OSError if the file is not there, StoreError if
    the store cannot be read.
    """
    folder = local_path(artifacts)
    if folder is not None:
        if store.database is not None and not folder.is_dir():  # The project was moved.
            folder = store.home / "artifacts" / run_id / "artifacts"
        return _text(folder / name, longest)
    with tempfile.TemporaryDirectory() as target:
        download = store.client.download_artifacts
        return _text(
            Path(with_retries("read a run's file", download, run_id, name, target)), longest
        )


def _text(path: Path, longest: int) -> str:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return file.read(longest)
