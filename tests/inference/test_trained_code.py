"""The code that a run was trained with, as an experiment file names it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.components.code.source import identity_of
from harness.components.registry import active_code, no_code
from harness.core.errors import InputError, StoreError
from harness.inference.trained_code import use_code


def unreadable(run_id: str) -> None:
    raise StoreError(f"run {run_id} cannot be read")


def test_a_model_and_a_loss_of_one_name_are_both_looked_at(tmp_path: Path) -> None:
    entries = ("models.py", "losses.py")
    for entry in entries:
        (tmp_path / entry).write_text(f"WHAT = {entry!r}\n")
    file = tmp_path / "mine.yaml"
    file.write_text("code: [models.py, losses.py]\n")
    model, loss = (identity_of(tmp_path, entry) for entry in entries)
    store: Any = SimpleNamespace(run=unreadable)
    run: Any = SimpleNamespace(
        run_id="a", parent_id="b", code={"model": {"own": model}, "loss": {"own": loss}}
    )
    with no_code():
        use_code(store, run, file)
        code = active_code()
    assert code is not None
    assert code.entries == entries
    run.code["model"] = {"own": "0" * 16}
    with no_code(), pytest.raises(InputError, match="the code of `own` is not what run a was"):
        use_code(store, run, file)
