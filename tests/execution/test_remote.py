"""Sweeps against a real `mlflow server`: the same results, and an outage that loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import search, sweep
from harness.core.errors import StoreUnreachable
from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import Ended, Outcome
from harness.experiment.plan import Plan
from harness.runner import search as session
from harness.store import retry
from harness.store.names import (
    PARAM_TRIAL,
    TAG_HOST,
    TAG_KIND,
    TAG_OUTCOME,
    TAG_POINT_NUMBER,
    TAG_PRUNED_AT,
    TAG_SUPERSEDED,
    TRIAL,
)
from harness.store.store import Store, open_store
from harness.store.write import background
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import SweepWriter
from harness.tuning.study import TuningStudy
from tests.execution.servers import Wire, free_port, mlflow_server, no_postgres, postgres
from tests.faults.machines import Machine
from tests.store.store_support import GOAL, digits, done, made_outputs, make_plan

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, lr: 0.1, epochs: 2, batch_size: 32}
grid: {optimizer: [sgd, adam], seed: [0, 1]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as uri:
        yield uri


@pytest.fixture
def wire(server: str) -> Wire:
    return Wire(int(server.rpartition(":")[2]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice an outage, and give up on it, within seconds."""
    monkeypatch.setattr(retry, "PAUSES", (0.1,))
    monkeypatch.setattr(retry, "PATIENT_PAUSE", 0.2)
    monkeypatch.setattr(background, "STUCK_SECONDS", 0.3)
    monkeypatch.setattr(background, "EXIT_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def results(uri: str, name: str) -> dict[str, dict[str, float]]:
    """The metrics of each trial that do not depend on a clock."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        if run.data.tags[TAG_KIND] == TRIAL:
            assert run.info.status == "FINISHED"
            assert run.data.params[PARAM_TRIAL] not in found, "a trial was written twice"
            found[run.data.params[PARAM_TRIAL]] = {
                metric: value
                for metric, value in run.data.metrics.items()
                if not metric.startswith(MACHINE_DEPENDENT)
            }
    return found


def hosts(uri: str, name: str) -> set[str]:
    """The machines that trained a trial."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags[TAG_HOST] for run in runs if run.data.tags[TAG_KIND] == TRIAL}


def swept(workspace: Path, uri: str | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    (workspace / "small.yaml").write_text(FILE)
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert sweep.main(["small.yaml", "--workers", "2", "--no-compare"]) == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return dict(results(uri or f"sqlite:///{workspace}/mlruns/mlflow.db", "small"))


@pytest.mark.slow
def test_a_server_holds_what_a_file_holds(
    workspace: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_server = swept(workspace, server, monkeypatch)
    assert len(on_server) == 4
    assert on_server == swept(workspace, None, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(bool(no_postgres()), reason=no_postgres() or "PostgreSQL is here")
def test_postgresql_holds_what_a_file_holds(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("postgres")
    with postgres() as database, mlflow_server(folder, database) as uri:
        on_server = swept(workspace, uri, monkeypatch)
    assert len(on_server) == 4
    assert on_server == swept(workspace, None, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(bool(no_postgres()), reason=no_postgres() or "PostgreSQL is here")
def test_two_machines_share_a_sweep_on_postgresql(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one machine would have trained it alone, each trial once and both at work: alone it takes
    far longer than one needs to start after the other."""
    file = FILE.replace("[0, 1]", str(list(range(8)))).replace("epochs: 2", "epochs: 300")
    file = file.replace("trial: {", "trial: {eval_every: 300, ")
    options = ("--fuse", "off")
    folder = tmp_path_factory.mktemp("postgres")
    with postgres() as database, mlflow_server(folder, database) as uri:
        machines = [
            Machine(workspace / name, uri, file, monkeypatch, options) for name in ("one", "other")
        ]
        try:
            for machine in machines:
                machine.ends()
        finally:
            for machine in machines:
                machine.harness.kill()
                machine.harness.communicate()
        together = results(uri, "small")
        assert hosts(uri, "small") == {"one", "other"}
    assert len(together) == 16
    (workspace / "small.yaml").write_text(file)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sweep.main(["small.yaml", "--executor", "inline", "--no-compare", *options]) == 0
    assert together == results(f"sqlite:///{workspace}/mlruns/mlflow.db", "small")


def test_no_server_at_the_start_is_reported_at_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "small.yaml").write_text(FILE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert sweep.main(["small.yaml"]) == 2
    told = capsys.readouterr().err
    assert "does not answer" in told
    assert "Traceback" not in told


def plan_of(count: int, name: str) -> Plan:
    return make_plan([digits(seed=seed) for seed in range(count)], name=name)


def store_of(wire: Wire, workspace: Path) -> Store:
    return open_store(workspace, wire.uri)


def train(background: BackgroundWriter, plan: Plan, number: int) -> None:
    for record in done(test_outputs=made_outputs(plan.trials[number].trial)):
        background.record(plan.trials[number], record)


def wait_until_stuck(background: BackgroundWriter) -> None:
    while not background.is_stuck():
        time.sleep(0.05)


@pytest.mark.usefixtures("quick")
def test_an_outage_holds_up_no_training_and_loses_nothing(
    wire: Wire, server: str, workspace: Path
) -> None:
    plan = plan_of(6, "outage")
    store = store_of(wire, workspace)
    with SweepWriter(store, plan, GOAL) as writer, BackgroundWriter(writer) as background:
        train(background, plan, 0)
        for record in done()[:3]:
            background.record(plan.trials[1], record)
        wire.cut()
        for number in (2, 3):
            train(background, plan, number)
        wait_until_stuck(background)
        for record in done()[3:]:
            background.record(plan.trials[1], record)
        train(background, plan, 4)
        assert len(list(writer.outbox.trial_ids())) == 2, (
            "what ends in an outage is on disk at once"
        )
        wire.mend()
        train(background, plan, 5)
    found = results(server, "outage")
    assert len(found) == 6
    assert len({tuple(sorted(metrics.items())) for metrics in found.values()}) == 1
    assert not list(writer.outbox.trial_ids())


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_sweep_that_gives_up_leaves_its_trials_to_the_next(
    wire: Wire, server: str, workspace: Path
) -> None:
    plan = plan_of(4, "given up")
    store = store_of(wire, workspace)
    writer = SweepWriter(store, plan, GOAL)
    with pytest.raises(StoreUnreachable, match="2 trials that ended wait"), writer:  # noqa: PT012, SIM117
        with BackgroundWriter(writer) as background:
            train(background, plan, 0)
            while not background.trials:
                time.sleep(0.05)
            wire.cut()
            for number in (1, 2):
                train(background, plan, number)
            for record in (done()[0], Ended(Outcome.INTERRUPTED, {}, "cut short")):
                background.record(plan.trials[3], record)
    wire.mend()
    for expected in (2, 0):
        with SweepWriter(store, plan, GOAL) as second:
            assert second.write_outbox(plan.trials) == expected
    assert len(results(server, "given up")) == 3


SEARCH = """\
name: tuned
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 4, val_fraction: 0.3}
artifacts: none
search:
  trials: 8
  space: {lr: {low: 1e-4, high: 1, log: true}}
  sampler: random
  pruner: {name: median, n_startup_trials: 1}
  known: [{lr: 0.5}, {lr: 1e-4}]
  retrain_seeds: 2
"""


def searched(wire: Wire, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    (workspace / "tuned.yaml").write_text(SEARCH)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.uri)
    monkeypatch.setattr(session, "_write_figures", lambda *_: None)
    return search.main(["tuned.yaml", "--workers", "1", "--no-compare"])


def when_told(monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[], None]]) -> None:
    """Do something when so many points have been told to their study."""
    tell, told = TuningStudy.tell, []

    def counting(self: TuningStudy, *arguments: Any) -> None:
        tell(self, *arguments)
        told.append(arguments)
        actions.get(len(told), lambda: None)()

    monkeypatch.setattr(TuningStudy, "tell", counting)


def runs_of_points(uri: str) -> dict[int, Any]:
    """The runs of the search's points by their numbers."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tuned")
    assert experiment is not None
    found: dict[int, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        if TAG_POINT_NUMBER in run.data.tags and TAG_SUPERSEDED not in run.data.tags:
            number = int(run.data.tags[TAG_POINT_NUMBER])
            assert number not in found, "a point was written twice"
            found[number] = run
    return found


def held(workspace: Path) -> list[Path]:
    return list(workspace.glob("mlruns/outbox/*/*.trial"))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_search_goes_on_while_the_server_is_away(
    wire: Wire, server: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def mend() -> None:
        kept.append(len(held(workspace)))
        wire.mend()

    when_told(monkeypatch, {2: wire.cut, 6: mend})
    assert searched(wire, workspace, monkeypatch) == 0
    assert kept[0] >= 4, "a point is told once its run is on disk"
    assert not held(workspace)
    found = runs_of_points(server)
    assert sorted(found) == list(range(8))
    assert {run.info.status for run in found.values()} == {"FINISHED", "KILLED"}
    pruned = {n for n, run in found.items() if TAG_PRUNED_AT in run.data.tags}
    assert pruned == {n for n, run in found.items() if run.info.status == "KILLED"}
    _delete(server)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_search_that_gives_up_leaves_its_points_to_the_next(
    wire: Wire, server: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_told(monkeypatch, {2: wire.cut})
    assert searched(wire, workspace, monkeypatch) != 0
    assert len(held(workspace)) >= 6, "the pruned ones too"
    wire.mend()
    assert searched(wire, workspace, monkeypatch) == 0
    assert not held(workspace)
    found = runs_of_points(server)
    assert sorted(found) == list(range(8))
    assert all(run.data.tags[TAG_OUTCOME] for run in found.values())
    _delete(server)


def _delete(server: str) -> None:
    """Make room for another experiment of this name."""
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("tuned")
    assert experiment is not None
    client.rename_experiment(experiment.experiment_id, f"tuned {time.monotonic_ns()}")


def test_the_writer_passes_on_what_went_wrong(workspace: Path) -> None:
    store = open_store(workspace)
    plan = plan_of(2, "broken")
    writer = SweepWriter(store, plan, GOAL)
    with pytest.raises(ValueError, match="has ended"), writer:  # noqa: PT012, SIM117
        with BackgroundWriter(writer) as background:
            for record in (*done(), done()[1]):
                background.record(plan.trials[0], record)


def test_in_step_writes_before_it_returns(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "COMMIT_SECONDS", 0.0)
    store = open_store(workspace)
    plan = plan_of(1, "in step")
    with SweepWriter(store, plan, GOAL) as writer:
        with BackgroundWriter(writer, in_step=True) as writing:
            train(writing, plan, 0)
            (run,) = store.latest_runs(writer.experiment_id).values()
            assert run.outcome is Outcome.DONE
        assert "ms per trial" in writing.cost()
