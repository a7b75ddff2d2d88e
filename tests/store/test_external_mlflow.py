"""MLflow experiments that other programs wrote: params or tags, nested, failed and running runs,
curves, repetitions."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunTag

from harness.analysis.comparison import Question
from harness.core.errors import InputError, NoResults, StoreError
from harness.report.section import build_report, sections
from harness.report.terminal import terminal
from harness.store.read.external.mlflow_client import ExternalClient
from harness.store.read.external.mlflow_runs import read_mlflow
from harness.store.read.external.mlflow_tables import ExternalTables
from harness.store.read.external.roles import column_roles
from harness.store.read.results import Results
from harness.store.store import Store, open_store
from harness.store.uris import sqlite_uri

CURVE = (0.5, 0.9, 0.7)
ROLES: dict[str, Any] = {
    "by": "optimizer",
    "task": "data",
    "seed": "seed",
    "config": "lr",
    "metric": "val_acc:max",
}


class Program:
    """Somebody's training code, which logs to MLflow in its own way."""

    def __init__(self, store: Store) -> None:
        self._store, self._clock = store, 0

    def experiment(self, name: str) -> str:
        return self._store.experiment(name)

    def log(
        self,
        experiment: str,
        params: Mapping[str, object] = {},
        tags: Mapping[str, str] = {},
        curves: Mapping[str, tuple[float, ...]] = {},
        *,
        status: str = "FINISHED",
        parent: str = "",
        name: str = "",
    ) -> str:
        client, self._clock = self._store.client, self._clock + 1
        created = client.create_run(experiment, start_time=self._clock, run_name=name or None)
        run_id = str(created.info.run_id)
        nested = {"mlflow.parentRunId": parent} if parent else {}
        client.log_batch(
            run_id,
            [
                Metric(key, value, 1000 + step, step)
                for key, values in curves.items()
                for step, value in enumerate(values)
            ],
            [Param(key, str(value)) for key, value in params.items()],
            [RunTag(key, value) for key, value in {**tags, **nested}.items()],
        )
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        return run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Store:
    path = tmp_path_factory.mktemp("others") / "mlflow.db"
    shutil.copy(empty_database, path)
    opened = open_store(uri=sqlite_uri(path))
    program = Program(opened)
    _nested(program, program.experiment("nested"))
    _repeated(program, program.experiment("repeated"))
    _unclear(program, program.experiment("unclear"))
    program.experiment("empty")
    return opened


def _nested(program: Program, experiment: str) -> None:
    """A run for each optimizer, with the optimizer as its tag; those inside it have the rest."""
    for place, optimizer in enumerate(("sgd", "adam")):
        group = program.log(experiment, tags={"optimizer": optimizer}, name=f"all of {optimizer}")
        for seed in range(2):
            curve = tuple(value + 0.01 * place + 0.001 * seed for value in CURVE)
            program.log(
                experiment,
                {"lr": "1e-2", "seed": seed},
                {"data": "digits"},
                {"val_acc": curve, "test_acc": tuple(value - 0.1 for value in curve)},
                parent=group,
                name=f"{optimizer} {seed}",
            )
    described = {"optimizer": "sgd", "lr": 0.01}
    task = {"data": "digits"}
    program.log(experiment, {"rows": 7}, name="prepare data")
    program.log(experiment, described, task, {"val_acc": (0.9,)}, name="no seed")
    statuses = (("broken", "FAILED"), ("stopped", "KILLED"), ("at work", "RUNNING"))
    for seed, (name, status) in enumerate(statuses, start=2):
        settings = described | {"seed": seed}
        program.log(experiment, settings, task, {"val_acc": (0.99,)}, status=status, name=name)
    for seed, last in enumerate((nan, inf), start=5):
        settings = described | {"seed": seed}
        program.log(experiment, settings, task, {"val_acc": (0.9, last)}, name=f"last {last}")
    program.log(experiment, described | {"seed": 7}, task, {"loss": (1.0,)}, name="no accuracy")
    whole = program.log(
        experiment, described | {"seed": 8}, task, {"val_acc": (0.4,)}, name="parts"
    )
    program.log(experiment, parent=whole, curves={"loss": (0.1,)}, name="a part")


def _repeated(program: Program, experiment: str) -> None:
    for optimizer in ("sgd", "adam"):
        settings = {"optimizer": optimizer, "seed": 0}
        commit = {"mlflow.source.git.commit": "a" * 40}
        program.log(experiment, settings, curves={"val_acc": (0.1,)}, status="FAILED")
        program.log(experiment, settings, commit, {"val_acc": (0.2,)})
        commit = {"mlflow.source.git.commit": "b" * 40}
        program.log(experiment, settings, commit, {"val_acc": (0.3,)})
        program.log(experiment, settings, curves={"val_acc": (0.4,)}, status="FAILED")


def _unclear(program: Program, experiment: str) -> None:
    for depth in (1, 2):
        settings = {"optimizer": "sgd", "seed": 0, "depth": depth}
        program.log(experiment, settings, curves={"val_acc": (0.2,)}, name=f"net {depth}")


def read(store: Store, experiment: str = "nested", **roles: Any) -> Results:
    return read_mlflow(store.uri, experiment, column_roles(**(ROLES | roles), steps=True))


@pytest.fixture(params=["tables", "client"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: Store) -> str:
    """Both ways of reading a store."""
    if request.param == "client":
        opened = "harness.store.read.external.mlflow_runs.open_external"
        monkeypatch.setattr(opened, lambda uri: ExternalClient(store))
    return str(request.param)


def test_the_innermost_runs_count_with_what_their_groups_say(reader: str, store: Store) -> None:
    trials = read(store).trials.set_index("run_name")

    assert trials.loc[["sgd 0", "adam 1"], "optimizer"].tolist() == ["sgd", "adam"]
    assert trials["outcome"].to_dict() == {
        **dict.fromkeys(("sgd 0", "sgd 1", "adam 0", "adam 1", "parts"), "done"),
        "broken": "failed",
        "stopped": "interrupted",
        "at work": "running",
        "last nan": "diverged",
        "last inf": "diverged",
        "no accuracy": "failed",
    }
    assert trials.loc["no accuracy", "reason"] == "it has no val_acc"
    assert trials.loc["broken", "reason"] == "MLflow has it as FAILED"


def test_runs_that_are_left_out_are_counted(reader: str, store: Store) -> None:
    external = read(store).external

    assert external is not None
    assert external.notes[:4] == (
        "Left out: 2 runs that other runs lie in.",
        "Left out: 1 run inside a run that has the metric.",
        "Left out: 1 run without optimizer.",
        "Left out: 1 run without seed.",
    )


def test_the_last_value_and_the_best_one(reader: str, store: Store) -> None:
    def values(metric: str, run: str, *columns: str) -> list[Any]:
        trials: Any = read(store, metric=metric).trials.set_index("run_name")
        return list(trials.loc[run, list(columns)])

    columns = "best/val_acc", "best/test_acc", "final/val_acc"
    assert values("val_acc:max", "sgd 0", "final/val_acc", "final/test_acc") == [0.7, 0.6]
    assert values("best/val_acc:max", "sgd 0", *columns) == [0.9, 0.8, 0.7]
    assert values("best/val_acc:min", "sgd 0", *columns) == [0.5, 0.4, 0.7]
    assert values("best/val_acc:max", "last inf", "best/val_acc") == [0.9]
    assert isnan(values("best/val_acc:max", "parts", "best/test_acc")[0])


def test_both_readers_find_the_same(store: Store) -> None:
    database = store.database
    assert database is not None
    tables, client = ExternalTables(database), ExternalClient(store)
    assert tables.experiments() == client.experiments()
    for experiment_id in tables.experiments().values():
        assert tables.metric_names(experiment_id) == client.metric_names(experiment_id)
        first, second = (of.runs(experiment_id, ["val_acc", "loss"]) for of in (tables, client))
        assert repr(first) == repr(second)
        for highest in (True, False):
            arguments = experiment_id, "val_acc", highest, "test_acc"
            assert repr(sorted(tables.best_steps(*arguments).items())) == repr(
                sorted(client.best_steps(*arguments).items())
            )


def test_a_repeated_run_counts_once(reader: str, store: Store) -> None:
    table = read(store, "repeated", task=None, config=None)

    assert table.superseded == 6
    assert table.trials["final/val_acc"].tolist() == [0.3, 0.3]


def test_runs_that_differ_in_a_param_are_no_repetitions(store: Store) -> None:
    with pytest.raises(InputError) as error:
        read(store, "unclear", task=None, config=None)

    assert "run net 1 and run net 2 are one run: optimizer=sgd, seed=0" in str(error.value)
    assert "they differ in depth: name with --config" in str(error.value)
    assert len(read(store, "unclear", task=None, config="depth").trials) == 2


@pytest.mark.parametrize(
    ("experiment", "roles", "said"),
    [
        ("nestd", {}, "no experiment is named 'nestd'\n    did you mean 'nested'?"),
        ("empty", {}, "experiment 'empty' has no runs"),
        ("nested", {"metric": "val_ac:max"}, "has a metric 'val_ac'\n    did you mean 'val_acc'?"),
        ("nested", {"by": "optim"}, "--by: there is no param or tag 'optim'"),
        ("nested", {"task": "dataset"}, "--task: there is no param or tag 'dataset'"),
        ("nested", {"seed": "rows"}, "no run has optimizer and data and rows at once"),
        ("nested", {"config": "wd"}, "allowed: data, lr, optimizer, rows, seed"),
    ],
)
def test_what_an_experiment_does_not_have_is_refused(
    store: Store, experiment: str, roles: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as error:
        read(store, experiment, **roles)

    assert said in str(error.value)


def test_an_experiment_may_be_named_by_its_id(store: Store) -> None:
    assert read(store, store.experiment("nested")).experiment == "nested"


def test_reading_changes_nothing(store: Store, tmp_path: Path) -> None:
    """Not even the kind of its journal, which every other use of a store changes."""
    copy = tmp_path / "theirs.db"
    assert store.database is not None
    with (
        closing(sqlite3.connect(store.database)) as source,
        closing(sqlite3.connect(copy)) as other,
    ):
        source.backup(other)
        other.execute("PRAGMA journal_mode=DELETE")
    before = hashlib.sha256(copy.read_bytes()).hexdigest()

    table = read_mlflow(sqlite_uri(copy), "nested", column_roles(**ROLES, steps=True))
    build_report(table, of=sections())

    assert hashlib.sha256(copy.read_bytes()).hexdigest() == before
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


@pytest.mark.parametrize("content", [b"", b"name,acc\n", b"SQLite format 3\x00"])
def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)

    with pytest.raises(StoreError, match="cannot read an MLflow store in"):
        read_mlflow(sqlite_uri(path), "nested", column_roles(**ROLES))

    assert path.read_bytes() == content


def test_a_store_that_does_not_exist_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoResults, match="there is no store"):
        read_mlflow(None, "nested", column_roles(**ROLES))
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(NoResults, match=r"add --store sqlite:///mlflow\.db"):
        read_mlflow(None, "nested", column_roles(**ROLES))
    assert not (tmp_path / "mlruns").exists()


def test_curves_are_by_step_and_step_0_is_no_untrained_net(reader: str, store: Store) -> None:
    report = build_report(read(store, config=["lr"]), Question(), sections())

    curves = report.record("curves")
    val = [curve for curve in curves.curves if curve.metric == "val_acc"]
    assert curves.step == "step"
    assert [(point.epoch, round(point.mean, 4)) for point in val[0].epochs] == [
        (0, 0.5105),
        (1, 0.9105),
        (2, 0.7105),
    ]
    said = " ".join(terminal([report], width=100).split())
    assert "Ranked on val_acc (higher is better) after the last step; test_acc is of" in said
    assert "untrained" not in said[: said.index("How each figure is computed")]


def test_the_best_of_a_curve_is_said_to_be_chosen(store: Store) -> None:
    table = read(store, metric="best/loss:min")
    said = " ".join(terminal([build_report(table)], width=100).split())

    assert "loss chooses each trial's best step, and is compared too" in said
