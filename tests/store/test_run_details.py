"""Curves and files of stored runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mlflow.entities import Metric

from harness.store.read import runs as reader
from harness.store.read.run_details import RunDetails
from harness.store.store import Store

EPOCHS = 3


def run(store: Store, factor: float = 1.0) -> str:
    made = store.client.create_run(store.experiment("curves"))
    points = [
        Metric(name, factor * epoch + place, 0, epoch)
        for place, name in enumerate(("val/accuracy", "train/loss", "lr"))
        for epoch in reversed(range(EPOCHS))
    ]
    store.client.log_batch(made.info.run_id, points)
    return str(made.info.run_id)


def test_histories_have_the_requested_metrics_and_runs_in_order(store: Store) -> None:
    first, second, _ = run(store), run(store, 2.0), run(store)

    found = RunDetails(store).histories([first, second, first], ["val/accuracy", "lr"])

    assert set(found["run_id"]) == {first, second}
    assert len(found) == 2 * 2 * EPOCHS
    of_second = found[(found["run_id"] == second) & (found["metric"] == "val/accuracy")]
    assert list(of_second["step"]) == [0, 1, 2]
    assert list(of_second["value"]) == [0.0, 2.0, 4.0]


def test_the_client_reads_the_same_histories(store: Store) -> None:
    runs = [run(store, factor) for factor in (1.0, 2.0)]
    elsewhere = replace(store, database=None)
    asked = ["val/accuracy", "train/loss"]

    found = RunDetails(elsewhere).histories(runs, asked)

    assert found.equals(RunDetails(store).histories(runs, asked))


def test_many_runs_take_few_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def request(store: Store, runs: list[str], metric: str) -> list[Any]:
        asked.append(len(runs))
        return []

    monkeypatch.setattr(reader, "_request_histories", request)
    RunDetails(replace(store, database=None)).histories(
        [f"{i:032}" for i in range(250)], ["a", "b"]
    )

    assert asked == [reader.RUNS_A_REQUEST, reader.RUNS_A_REQUEST, 50] * 2


def test_more_runs_than_a_statement_holds(store: Store) -> None:
    known = run(store)
    absent = [f"{i:032}" for i in range(40_000)]

    found = RunDetails(store).histories([*absent, known], ["lr"])

    assert set(found["run_id"]) == {known}


def test_no_runs_give_an_empty_table(store: Store) -> None:
    assert list(RunDetails(store).histories([], ["a"]).columns) == [
        "run_id",
        "metric",
        "step",
        "value",
    ]


def test_text_files_are_read_and_missing_ones_are_none(store: Store) -> None:
    held = run(store)
    store.attach(held, "provenance.json", '{"python": "3"}')
    store.attach(held, "traceback.txt", "boom")

    details = RunDetails(store, held)

    assert details.text(held, "traceback.txt") == "boom"
    assert details.text(held, "absent.txt") is None
    assert details.text("f" * 32, "traceback.txt") is None
    assert details.provenance() == {"python": "3"}
    assert RunDetails(store).provenance() == {}


def test_an_attached_file_replaces_the_previous_one(store: Store) -> None:
    held = run(store)
    store.attach(held, "report.html", "first")
    store.attach(held, "report.html", "second")

    assert RunDetails(store).text(held, "report.html") == "second"


def test_invalid_provenance_is_ignored(store: Store) -> None:
    held = run(store)
    store.attach(held, "provenance.json", "{cut off")
    assert RunDetails(store, held).provenance() == {}
