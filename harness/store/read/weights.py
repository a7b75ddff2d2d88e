"""Weights of a stored run."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import StoreError
from harness.store.artifacts.trial_files import WEIGHTS
from harness.store.retry import persist
from harness.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor


def fetch_weights(store: Store, run_id: str) -> dict[str, Tensor] | None:
    """The state dict of a run, on the CPU; None where it has none.

    Raises StoreError where the file is not the one that was written.
    """
    folder = WEIGHTS.rpartition("/")[0]
    listed = persist(f"read {store.label}", lambda: store.client.list_artifacts(run_id, folder))
    if WEIGHTS not in {file.path for file in listed}:
        return None
    with tempfile.TemporaryDirectory() as name:
        fetched = persist(
            f"fetch {folder} of run {run_id}",
            lambda: store.client.download_artifacts(run_id, folder, name),
        )
        return _load(Path(fetched, Path(WEIGHTS).name), run_id)


def _load(path: Path, run_id: str) -> dict[str, Tensor]:
    import torch

    beside = path.with_suffix(".pt.sha256")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if beside.is_file() and beside.read_text().split()[:1] != [found]:
        raise StoreError(f"the weights of run {run_id} are damaged: their SHA-256 is {found}")
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"the weights of run {run_id} cannot be read: {reason}") from error
    return state
