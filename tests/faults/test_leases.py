"""Harnesses on two machines that share only an MLflow server. Processes, clocks and kills are real;
only the machine's name and the lease's length are set."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.store.names import PARAM_TRIAL, TAG_KIND, TAG_REASON, TAG_SUPERSEDED, TRIAL
from tests.execution.servers import mlflow_server
from tests.faults.machines import DEADLINE, LEASE_SECONDS, Machine

pytestmark = pytest.mark.slow

FILE = """\
name: {name}
trial: {{dataset: iris, model: perceptron, epochs: {epochs}, eval_every: {epochs}, lr: 0.1}}
grid: {grid}
artifacts: none
"""
MANY = "{optimizer: [sgd, adam, momentum, adamw], seed: [0, 1, 2, 3, 4]}"
TWO = "{optimizer: [sgd], seed: [0, 1]}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as uri:
        yield uri


@pytest.fixture
def machines(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Machine]]:
    made: list[Machine] = []

    def start(file: str) -> list[Machine]:
        made.extend(
            Machine(tmp_path / name, server, file, monkeypatch) for name in ("one", "other")
        )
        return made

    yield start  # type: ignore[misc]
    for machine in made:
        machine.harness.kill()
        machine.harness.communicate()


def trials(server: str, name: str) -> list[Run]:
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return [run for run in found if run.data.tags.get(TAG_KIND) == TRIAL]


def finished(server: str, name: str) -> Counter[str]:
    return Counter(
        run.data.params[PARAM_TRIAL]
        for run in trials(server, name)
        if run.info.status == "FINISHED"
    )


def wait_for_two_trials(server: str, name: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(trials(server, name)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_two_machines_share_a_sweep(server: str, machines: object) -> None:
    both = machines(FILE.format(name="many", epochs=3, grid=MANY))  # type: ignore[operator]
    for machine in both:
        machine.ends()
    found = finished(server, "many")
    assert len(found) == 20
    assert set(found.values()) == {1}
    assert len(trials(server, "many")) == 20, "no trial started twice"


def test_clocks_that_jump_an_hour_either_way_kill_nobody(server: str, machines: object) -> None:
    """Each trial takes longer than a lease, so a machine that counted as dead would be seen."""
    both = machines(FILE.format(name="clocks", epochs=10_000, grid=TWO))  # type: ignore[operator]
    wait_for_two_trials(server, "clocks")
    began = time.monotonic()
    for hours in (1, -1, 0):
        both[0].set_clock(hours)
        both[1].set_clock(-hours)
        time.sleep(LEASE_SECONDS / 2)
    for machine in both:
        machine.ends()
    assert time.monotonic() - began > 1.5 * LEASE_SECONDS
    found = trials(server, "clocks")
    assert sorted(run.info.status for run in found) == ["FINISHED", "FINISHED"]
    assert len(finished(server, "clocks")) == 2
    assert not [run for run in found if TAG_SUPERSEDED in run.data.tags]


def test_a_dead_machine_is_taken_over_once_its_lease_has_run_out(
    server: str, machines: object
) -> None:
    dead, heir = machines(FILE.format(name="heir", epochs=4000, grid=TWO))  # type: ignore[operator]
    wait_for_two_trials(server, "heir")
    dead.harness.kill()
    heir.ends()
    assert len(finished(server, "heir")) == 2
    assert set(finished(server, "heir").values()) == {1}
    (left,) = (run for run in trials(server, "heir") if run.info.status != "FINISHED")
    assert left.info.status == "KILLED"
    assert "lease" in left.data.tags[TAG_REASON]
