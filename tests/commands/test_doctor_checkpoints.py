"""The doctor reports checkpoints that no sweep will use, and removes those of finished trials."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness import doctor
from harness.core.files import write_checksummed
from harness.core.records import Ended, Outcome, Record, Started
from harness.diagnostics.store import BUSY_SECONDS, OLD_SECONDS
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.experiment.plan import Plan
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, done, failed, make_plan, measured, write


@pytest.fixture
def plan() -> Plan:
    """Returns a plan of two epochs, as the records of `done()` have them."""
    return make_plan([digits(seed=seed, epochs=2) for seed in range(4)])


def write_checkpoints(
    store: Store, number: int, *names: str, age: float = 0.0, experiment: Path | None = None
) -> Path:
    """Writes checkpoints of the plan's n-th trial, `age` seconds old. Returns their folder."""
    folder = (experiment or store.checkpoints("1")) / "lineage" / f"{number:016x}"
    for name in names:
        write_checksummed(folder / name, {"epoch": 1})
        os.utime(folder / name, (time.time() - age, time.time() - age))
    return folder


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = doctor.main(["--only", "store", *arguments])
    output = capsys.readouterr()
    return code, " ".join((output.out + output.err).split())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HALF, LAST = "000001-000000000.pt", "000002-000000000.pt"


def test_checkpoints_of_finished_trials_are_cleared_as_their_sweep_would_have(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sweep was killed after it had stored the run."""
    diverged: list[Record] = [Started({}), measured(0, 0.1), Ended(Outcome.DIVERGED, {}, "loss")]
    write(store, plan, {0: done(), 1: diverged, 2: done()})
    whole = write_checkpoints(store, 0, HALF, LAST, age=BUSY_SECONDS + 60)
    blown = write_checkpoints(store, 1, HALF, f"{LAST}.damaged", age=BUSY_SECONDS + 60)
    final = write_checkpoints(store, 2, "000002.final", age=BUSY_SECONDS + 60)
    for _ in range(2):
        code, output = examine(capsys)
        assert code == 1
        assert "2 folders" in output
        assert "left by finished trials" in output
        assert names(whole) == [HALF, LAST]
    code, output = examine(capsys, "--fix")
    assert code == 0
    assert "2 folders of finished trials cleared" in output
    assert names(whole) == names(final) == ["000002.final"], "a longer trial continues from it"
    assert not blown.exists()
    assert examine(capsys)[0] == 0


def test_a_stack_is_cleared_once_none_of_its_trials_waits(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    cut: list[Record] = [Started({}), measured(0, 0.1), Ended(Outcome.INTERRUPTED, {})]
    write(store, plan, {0: done(), 1: done(), 2: cut})
    folders = []
    for members in ((0, 1), (1, 2)):
        folder = ExperimentCheckpoints(store.checkpoints("1")).stacks_folder / f"stack{members[0]}"
        write_checksummed(folder / HALF, {"epoch": 1})
        for number in members:
            (folder / f"{number:016x}.member").touch()
        for path in folder.iterdir():
            os.utime(path, (time.time() - BUSY_SECONDS - 60,) * 2)
        folders.append(folder)
    code, output = examine(capsys, "--fix")
    assert code == 0
    assert "1 folder of finished trials cleared" in output
    assert [folder.exists() for folder in folders] == [False, True]


def test_checkpoints_of_unfinished_trials_are_never_removed(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    cut: list[Record] = [Started({}), measured(0, 0.1), Ended(Outcome.INTERRUPTED, {})]
    write(store, plan, {0: cut, 1: [Started({}), failed()]})
    folders = [write_checkpoints(store, n, HALF, age=OLD_SECONDS + 86400) for n in range(3)]
    recent = write_checkpoints(store, 3, HALF)
    for arguments in ((), ("--fix",)):
        code, output = examine(capsys, *arguments)
        assert code == 0
        assert "3 folders" in output
        assert "of unfinished trials, the oldest unchanged for 8 days" in output
        assert "delete them" in output
    assert all(names(folder) == [HALF] for folder in (*folders, recent))


def test_a_finished_trial_that_is_trained_again_keeps_its_checkpoints(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    """So does one whose checkpoints are recent, whatever the store says."""
    write(store, plan, {0: done(), 1: done()})
    lately = write_checkpoints(store, 1, HALF, age=BUSY_SECONDS - 60)
    with SweepWriter(store, plan, GOAL) as writer:
        writer.record(plan.trials[0], Started({}))
        writer.commit()
        running = write_checkpoints(store, 0, HALF, age=BUSY_SECONDS + 60)
        assert "left by finished trials" not in examine(capsys, "--fix")[1]
        assert names(running) == names(lately) == [HALF]
        writer.record(plan.trials[0], Ended(Outcome.INTERRUPTED, {}))
    assert "1 folder" in examine(capsys)[1]


def test_folders_of_unknown_experiments_are_reported_with_their_size(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(store, plan, {0: done()})
    unknown = store.checkpoints("1").with_name("77-of-another")
    strange: Any = write_checkpoints(store, 0, HALF, age=OLD_SECONDS, experiment=unknown)
    (strange / "large.pt").write_bytes(bytes(3 << 20))
    (strange / "large.pt").rename(strange / "large.damaged")
    code, output = examine(capsys, "--fix")
    assert code == 0
    assert "1 folder, 3 MiB, of experiments that are not in this store" in output
    assert names(strange) == [HALF, "large.damaged"]
