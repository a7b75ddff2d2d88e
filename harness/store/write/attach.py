"""Adds a file to a run that has ended: a sweep's report, which is made from what it stored."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.store.retry import with_retries
from harness.store.store import Store


def attach(store: Store, run_id: str, name: str, text: str) -> None:
    """Store `text` as the file `name` of a run, in place of an earlier one. Raises StoreError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(text, encoding="utf-8")
        with_retries("store the report", lambda: store.client.log_artifact(run_id, str(path)))
