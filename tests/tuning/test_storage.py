"""The studies' journal: incomplete lines, locks left behind, two searches at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from harness.core.errors import HarnessError, StoreError
from harness.tuning.storage import open_storage, repair


def fill(path: Path, trials: int = 3) -> list[dict[str, float]]:
    """Writes finished trials to a journal. Returns their params."""
    with open_storage(str(path), path.parent, "x") as opened:
        study = optuna.create_study(study_name="s", storage=opened.storage)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=trials)
        return [trial.params for trial in study.trials]


def read(path: Path) -> list[dict[str, float]]:
    with open_storage(str(path), path.parent, "x") as opened:
        return [t.params for t in optuna.load_study(study_name="s", storage=opened.storage).trials]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_cut_and_no_other_trial_is_lost(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "studies.journal"
    params = fill(path)
    whole = path.read_bytes()
    last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    path.write_bytes(whole + last[:-cut])
    assert read(path) == params
    assert path.read_bytes() == whole
    assert path.with_name("studies.journal.torn").read_bytes() == last[:-cut] + b"\n"
    with open_storage(str(path), tmp_path, "x") as opened:
        study = optuna.load_study(study_name="s", storage=opened.storage)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(read(path)) == len(params) + 1, "the repaired journal can be written"


def test_a_last_line_that_is_no_record_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    params = fill(path)
    with path.open("ab") as journal:
        journal.write(b"\x00\x00\x00\x00\n")
    assert read(path) == params


def test_a_complete_journal_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    repair(path)
    assert not path.exists()
    fill(path)
    whole = path.read_bytes()
    repair(path)
    assert path.read_bytes() == whole
    assert not path.with_name("studies.journal.torn").exists()


@pytest.mark.slow
def test_a_lock_of_optuna_left_by_a_killed_search_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    fill(path)
    path.with_name("studies.journal.lock").symlink_to(path)
    begun = time.monotonic()
    params = read(path)
    with open_storage(str(path), tmp_path, "x") as opened:
        optuna.create_study(study_name="t", storage=opened.storage)
    assert len(params) == 3
    assert time.monotonic() - begun < 25, "Optuna by itself waits 30 s"


def test_a_second_search_on_a_journal_is_rejected_while_the_first_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from harness.tuning.storage import open_storage\n"
        f"with open_storage({str(path)!r}, Path({str(tmp_path)!r}), 'x'):\n"
        "    print('open', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "open\n"
        with (
            pytest.raises(HarnessError, match="another search is using"),
            open_storage(str(path), tmp_path, "x"),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    assert fill(path), "the lock ended with its process"


def test_the_error_for_a_storage_that_cannot_be_opened_hides_its_password() -> None:
    with (
        pytest.raises(StoreError) as raised,
        open_storage("postgresql://me:secret@127.0.0.1:1/x", Path(), "x"),
    ):
        pass
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 2
