"""The doctor tells of checkpoints that nobody will go on from, and removes those of trials done."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness import doctor
from harness.core.checksummed import write_checksummed
from harness.core.records import Ended, Outcome, Started
from harness.diagnostics.checkpoints import BUSY_SECONDS, LONG_SECONDS
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.experiment.plan import Plan
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, done, failed, make_plan, measured, write


@pytest.fixture
def plan() -> Plan:
    """Of two epochs, as `done()`'s records are."""
    return make_plan([digits(seed=seed, epochs=2) for seed in range(4)])


def keep(store: Store, number: int, *names: str, age: float = 0.0, room: str = "1") -> Path:
    """The folder of the plan's n-th trial with sealed files of these names, touched so long ago."""
    folder = store.checkpoints(room) / "lineage" / f"{number:016x}"
    for name in names:
        write_checksummed(folder / name, {"epoch": 1})
        os.utime(folder / name, (time.time() - age, time.time() - age))
    return folder


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = doctor.main(["--only", "store", *arguments])
    told = capsys.readouterr()
    return code, " ".join((told.out + told.err).split())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HALF, LAST = "000001-000000000.pt", "000002-000000000.pt"


def test_what_a_done_trial_left_is_cleared_as_its_sweep_would_have(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sweep was killed after the run stood in the store."""
    diverged = [Started({}), measured(0, 0.1), Ended(Outcome.DIVERGED, {}, "loss")]
    write(store, plan, {0: done(), 1: diverged, 2: done()})
    whole = keep(store, 0, HALF, LAST, age=BUSY_SECONDS + 60)
    blown = keep(store, 1, HALF, f"{LAST}.damaged", age=BUSY_SECONDS + 60)
    final = keep(store, 2, "000002.final", age=BUSY_SECONDS + 60)
    for _ in range(2):
        code, told = examine(capsys)
        assert code == 1
        assert "2 folders" in told
        assert "left by trials that are done" in told
        assert names(whole) == [HALF, LAST]
    code, told = examine(capsys, "--fix")
    assert code == 0
    assert "2 folders of trials that are done cleared" in told
    assert names(whole) == names(final) == ["000002.final"], "a longer trial goes on from it"
    assert not blown.exists()
    assert examine(capsys)[0] == 0


def test_a_stack_is_cleared_once_none_of_its_trials_waits(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [Started({}), measured(0, 0.1), Ended(Outcome.INTERRUPTED, {})]
    write(store, plan, {0: done(), 1: done(), 2: cut})
    folders = []
    for members in ((0, 1), (1, 2)):
        folder = ExperimentCheckpoints(store.checkpoints("1")).stacks / f"stack{members[0]}"
        write_checksummed(folder / HALF, {"epoch": 1})
        for number in members:
            (folder / f"{number:016x}.member").touch()
        for path in folder.iterdir():
            os.utime(path, (time.time() - BUSY_SECONDS - 60,) * 2)
        folders.append(folder)
    code, told = examine(capsys, "--fix")
    assert code == 0
    assert "1 folder of trials that are done cleared" in told
    assert [folder.exists() for folder in folders] == [False, True]


def test_what_a_trial_can_go_on_from_is_never_touched(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [Started({}), measured(0, 0.1), Ended(Outcome.INTERRUPTED, {})]
    write(store, plan, {0: cut, 1: [Started({}), failed()]})
    folders = [keep(store, n, HALF, age=LONG_SECONDS + 86400) for n in range(3)]
    recent = keep(store, 3, HALF)
    for arguments in ((), ("--fix",)):
        code, told = examine(capsys, *arguments)
        assert code == 0
        assert "3 folders" in told
        assert "of trials that are not done, the oldest untouched for 8 days" in told
        assert "delete them" in told
    assert all(names(folder) == [HALF] for folder in (*folders, recent))


def test_a_trial_that_is_trained_again_keeps_its_own(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    """Done before, and running now: for what was touched lately, whatever the store says."""
    write(store, plan, {0: done(), 1: done()})
    lately = keep(store, 1, HALF, age=BUSY_SECONDS - 60)
    with SweepWriter(store, plan, GOAL) as writer:
        run = writer.start_trial(plan.trials[0])
        run.record(Started({}))
        writer.sink.commit()
        running = keep(store, 0, HALF, age=BUSY_SECONDS + 60)
        assert "left by trials" not in examine(capsys, "--fix")[1]
        assert names(running) == names(lately) == [HALF]
        run.record(Ended(Outcome.INTERRUPTED, {}))
    assert "1 folder" in examine(capsys)[1]


def test_folders_of_unknown_experiments_are_told_with_their_size(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(store, plan, {0: done()})
    strange: Any = keep(store, 0, HALF, age=LONG_SECONDS, room="77")
    (strange / "large.pt").write_bytes(bytes(3 << 20))
    (strange / "large.pt").rename(strange / "large.damaged")
    code, told = examine(capsys, "--fix")
    assert code == 0
    assert "1 folder, 3 MiB, of experiments that this store does not know" in told
    assert names(strange) == [HALF, "large.damaged"]
