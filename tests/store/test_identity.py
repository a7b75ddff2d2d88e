"""The files beside a store are of that store alone, whatever its address."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import doctor, sweep
from harness.core.errors import HarnessError
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.store.coordination import processes, waiting
from harness.store.coordination.waiting import Waiting
from harness.store.store import Store, open_store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, make_plan

FILES: list[Callable[[Store, str], Path]] = [
    Store.outbox,
    Store.pending_outputs,
    Store.checkpoints,
    Store.claims_file,
    Store.writers_file,
    lambda store, _: store.home / store.journal("test"),
]
EXPERIMENT = """
name: shared
artifacts: none
trial: {{dataset: digits, model: {{name: mlp, hidden: [8]}}, optimizer: sgd, lr: 0.1, epochs: {}}}
grid: {{seed: [0, 1, 2, 3]}}
"""


@pytest.fixture
def second(store: Store, empty_database: Path) -> Store:
    """Another store in the same folder."""
    path = store.home / "another.db"
    shutil.copy(empty_database, path)
    return open_store(uri=f"sqlite:///{path}")


@pytest.mark.parametrize("place", FILES)
def test_two_stores_in_one_folder_share_no_file(
    place: Callable[[Store, str], Path], store: Store, second: Store
) -> None:
    first_id, second_id = store.experiment("test"), second.experiment("test")
    assert first_id == second_id, "what an earlier version went by"
    assert place(store, first_id) != place(second, second_id)


@pytest.mark.parametrize("place", FILES)
def test_all_addresses_of_a_store_lead_to_the_same_files(
    place: Callable[[Store, str], Path], store: Store, workspace: Path
) -> None:
    number = store.experiment("test")
    (workspace / "link").symlink_to(workspace / "mlruns")
    relative = open_store(uri="sqlite:///mlruns/mlflow.db")
    linked = open_store(uri=f"sqlite:///{workspace}/link/mlflow.db")
    served = replace(store, database=None, uri="http://one:5000", _folders={})
    again = replace(store, database=None, uri="http://two:5000", _folders={})
    places = {place(one, number).resolve() for one in (store, relative, linked, served, again)}
    assert len(places) == 1


@pytest.mark.parametrize("place", FILES)
def test_files_of_an_earlier_version_are_found_by_their_store_alone(
    place: Callable[[Store, str], Path], store: Store, second: Store
) -> None:
    numbers = {one.client.create_experiment("test") for one in (store, second)}  # As it did.
    (number,) = numbers
    ours, theirs = place(store, number).name, place(second, number).name
    assert ours in (number, f"{number}.writers", "test")
    assert theirs not in (ours, number)


def test_a_store_alone_in_its_folder_keeps_the_files_of_an_earlier_version(
    store: Store, second: Store
) -> None:
    (store.home / "mlflow.db").unlink()
    number = second.client.create_experiment("test")
    assert second.checkpoints(number).name == number


def test_doctor_leaves_the_checkpoints_of_another_store(
    store: Store, second: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = [one.checkpoints(one.experiment("test")) for one in (store, second)]
    for folder in experiments:
        path = ExperimentCheckpoints(folder).folder / "lineage" / ("0" * 16)
        path.mkdir(parents=True)
        (path / "000001-000000000.pt").write_bytes(b"x")
    doctor.main(["--only", "store", "--fix"])
    assert "of experiments that are not in this store" in " ".join(capsys.readouterr().out.split())
    assert all(list(folder.glob("*/*/*.pt")) for folder in experiments)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def wait_long(wait: Waiting, clock: Clock) -> None:
    for _ in range(20):
        wait.look(1)
        clock.now += 5


def parent_process() -> str:
    """The tag of a process that lives as long as this one."""
    own = json.loads(processes.process_tag())
    return json.dumps(own | {"pid": os.getppid(), "born": processes._start_time(os.getppid())})


def test_a_wait_says_for_whom_and_ends_if_that_process_is_silent(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.write.parent.process_tag", parent_process)
        writer = SweepWriter(store, plan, GOAL)
    (lease,) = (parent.lease for parent in writer._parents.values())
    said: list[str] = []
    wait = Waiting(store, writer.experiment_id, said.append)
    for _ in range(40):  # It renews its lease, and is waited for.
        lease.renew()
        wait.look(2)
        clock.now += 5
    assert len(said) == 1
    assert said[0].startswith(f"waiting for 2 trials held by process {os.getppid()} on ")
    assert " (since 2" in said[0]
    with pytest.raises(HarnessError, match=r"nothing was heard for 60 s: end it, or let it go on"):
        wait_long(wait, clock)


def test_a_wait_for_nobody_ends(store: Store, clock: Clock) -> None:
    said: list[str] = []
    wait = Waiting(store, store.experiment("test"), said.append)
    with pytest.raises(HarnessError, match="is another store in this folder a copy of this one"):
        wait_long(wait, clock)
    assert said == ["waiting for 1 trial held by a process that has no run in this store"]


def begin(project: Path, store: str, epochs: int) -> subprocess.Popen[str]:
    (project / "experiments" / "shared.yaml").write_text(EXPERIMENT.format(epochs))
    command = [sys.executable, "-m", "harness.sweep", "experiments/shared.yaml", "--no-compare"]
    return subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=project,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///mlruns/{store}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_sweeps_on_two_stores_of_one_folder_both_end(
    workspace: Path, empty_database: Path
) -> None:
    for name in ("one.db", "two.db"):
        shutil.copy(empty_database, workspace / "mlruns" / name)
    both = [begin(workspace, name, epochs=60) for name in ("one.db", "two.db")]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], outputs
    for output in outputs:
        assert "4/4 trials; 4 done" in output
        assert "another process" not in output


@pytest.mark.slow
def test_a_sweep_that_waits_for_a_stopped_one_ends_with_a_message(
    store: Store,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = begin(workspace, "mlflow.db", epochs=100_000)
    try:
        number = store.experiment("shared")
        while not any(run.tags.get("harness.ids") for run in store.runs(number)):
            time.sleep(0.2)
        other.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(waiting, "LEASE_SECONDS", 8.0)
        monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.1)
        path = "experiments/shared.yaml"
        assert sweep.main([path, "grid.seed=[0]", "--no-compare", "--workers", "1"]) == 1
    finally:
        other.kill()
        other.wait()
    told = capsys.readouterr()
    assert f"waiting for 1 trial held by process {other.pid} on " in told.out
    assert "nothing was heard for 8 s: end it, or let it go on" in told.err
