"""`harness.compare` from the command line, on a real store."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, validate

from harness.compare import main
from harness.components.datasets.mnist import MNISTFamily
from harness.core.errors import InputError
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.report.request import conditions
from harness.report.schema import schema
from harness.store.read.runs import StoredRun
from harness.store.store import open_store
from tests.stored import add, small_grid, sweep_run, trial_run

FILE = """\
name: from-file
trial: {dataset: digits, model: mlp, epochs: 2, device: cpu}
grid:
  optimizer: [sgd, adam]
  lr: [1e-2, 1e-1]
expect:
  - {metric: test/accuracy, value: 0.5, tolerance: 0.1, source: nobody}
"""
TUNED = """\
name: tuned
trial: {dataset: digits, model: mlp, optimizer: sgd, lr: 0.1}
search: {trials: 1, space: {lr: {low: 0.1, high: 1}}}
"""
IMAGES = FILE.replace("digits", "mnist")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose store has the experiments "grid" and, run last, "from-file": two of the
    file's four trials, and one that it no longer asks for."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        (folder / "mlruns").mkdir()
        patch.chdir(folder)
        store = open_store(folder)
        add(store, "grid", [sweep_run(), *small_grid()], begin=1)
        (folder / "a.yaml").write_text(FILE)
        plan = make_plan(load("a.yaml"))
        trials = [
            with_ids(
                trial_run(0.9 - i / 10, test=0.5, model="mlp", optimizer=optimizer, lr=0.01),
                plan.trials[2 * i],
            )
            for i, optimizer in enumerate(("sgd", "adam"))
        ]
        add(store, "from-file", [sweep_run(), *trials, trial_run(0.99, lr=7.0)], begin=1000)
        yield folder


def with_ids(run: StoredRun, planned: Any) -> StoredRun:
    run.params.update(trial_id=planned.trial_id, config_id=planned.config_id)
    return run


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_by_default(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid"]) == 0

    output = capsys.readouterr().out
    assert "adam leads with val/accuracy 0.9803 ± 0.0015 (n = 3)" in output
    assert "36 trials (36 done) of 12 configs, 3 seeds" in output


def test_the_experiment_run_last_by_default(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("from-file\n")


def test_comparing_downloads_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[Path] = []
    monkeypatch.setattr(MNISTFamily, "_download", lambda self, folder: downloads.append(folder))
    monkeypatch.setenv("HARNESS_DATA", str(project / "nothing"))
    (project / "images.yaml").write_text(IMAGES)

    assert main(["images.yaml"]) == 0

    captured = capsys.readouterr()
    assert "does not exist, and comparing downloads nothing" in captured.err
    assert "3 trials (3 done)" in " ".join(captured.out.split())
    assert downloads == []


def test_a_file_counts_only_what_it_asks_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["a.yaml"]) == 0
    of_file = " ".join(capsys.readouterr().out.split())
    assert main(["from-file"]) == 0
    of_name = " ".join(capsys.readouterr().out.split())

    assert "2 trials (2 done)" in of_file
    assert "2 trials of the file not run yet" in of_file
    assert "Left out: 1 trial in the store that the file no longer asks for" in of_file
    assert "reproduced" in of_file  # the file's own figure; the sweep's run has none
    assert "3 trials (3 done)" in of_name
    assert "reproduced" not in of_name


def test_several_experiments_stand_one_after_the_other(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", "from-file", "--format", "json"]) == 0

    output = json.loads(capsys.readouterr().out)
    assert [e["experiment"] for e in output["experiments"]] == ["grid", "from-file"]
    validate(output, schema(), Draft202012Validator)


def test_where_by_metric_and_top(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["grid", "--format", "csv", "--where", "lr=1e-2", "--where", "lr=0.1", "--top", "3"]

    assert main([*command, "--by", "optimizer", "--metric", "final/val/accuracy"]) == 0

    found = rows(capsys.readouterr().out)
    assert [(row["lr"], row["epoch"]) for row in found] == [("0.01", "final")] * 2 + [
        ("0.1", "final")
    ]
    assert float(found[0]["mean"]) == pytest.approx(0.98 + 0.001 / 3 - 0.01)


def test_csv_has_all_configs_and_a_table_the_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["grid", "--format", "csv"])
    assert len(rows(capsys.readouterr().out)) == 12
    main(["grid", "--format", "csv", "--top", "0"])
    assert len(rows(capsys.readouterr().out)) == 12
    main(["grid", "--top", "2"])
    assert "10 configs more" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_shows_20_configs_by_default(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlruns").mkdir()
    runs = [trial_run(0.9, lr=0.1 + i) for i in range(25)]
    add(open_store(tmp_path), "many", [sweep_run(), *runs], begin=1)
    command = ["many", "--store", f"sqlite:///{tmp_path}/mlruns/mlflow.db", "--section"]

    for form, note in (("table", True), ("markdown", True), ("latex", True), ("json", False)):
        assert main([*command, "leaderboard", "--format", form]) == 0
        assert ("5 configs more" in capsys.readouterr().out) == note
    assert main([*command, "leaderboard", "--top", "0"]) == 0
    assert "more" not in capsys.readouterr().out
    assert main([*command, "leaderboard", "--format", "json"]) == 0
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    assert len(experiment["leaderboard"]["rows"]) == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["gird"], "did you mean 'grid'"),
        (["grid", "--where", "lr"], "must be FIELD=VALUE"),
        (["grid", "--where", "lr=5"], "lr is one of 0.001, 0.01, 0.1"),
        (["grid", "--where", "rate=5"], "no trial has a field 'rate'"),
        (["grid", "--metric", "val/acuracy"], "did you mean 'val/accuracy'"),
        (["grid", "--by", "optimiser"], "did you mean 'optimizer'"),
        (["absent.yaml"], "absent.yaml"),
        (["grid", "--baseline", "adan"], "did you mean 'adam'"),
        (["grid", "--section", "pared"], "did you mean 'paired'"),
        (["grid", "--join"], "--join needs two"),
        (
            ["grid", "grid", "--join"],
            "--join needs two experiments or two stores; grid was named 2",
        ),
        (
            ["a.yaml", "from-file", "--join"],
            "--join needs two experiments or two stores; from-file",
        ),
        (["grid", "--store", "sqlite:////nowhere/mlflow.db"], "does not exist"),
    ],
)
def test_bad_questions_end_with_2(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(options) == 2

    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (FILE, "sweep"),
        (IMAGES, "sweep"),
        (TUNED, "search"),
    ],
    ids=["sweep", "data not here", "search"],
)
@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
def test_a_file_that_was_never_run_says_how_to_run_it(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    command: str,
    store: bool,
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "nothing"))
    if not store:
        monkeypatch.chdir(tmp_path)
    file = tmp_path / "never run.yaml"
    file.write_text(text.replace("name: from-file", "name: grids"))

    assert main([str(file)]) == 2

    message = capsys.readouterr().err
    assert f"error: {file}: not run yet: no " in message
    assert f"run it first: python -m harness.{command} '{file}'" in message
    assert "--join" not in message


def test_a_run_counts_once_however_often_it_is_named(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name twice, by name and by file, and in a copy of its store that went on."""
    database = f"sqlite:///{project}/mlruns/mlflow.db"
    copy = tmp_path / "mlruns" / "mlflow.db"
    shutil.copytree(project / "mlruns", copy.parent)
    add(open_store(tmp_path), "grid", [trial_run(0.5, lr=7.0)], begin=10_000)
    for named, trials in (
        (["grid", "grid", "from-file"], 36 + 3),
        (["from-file", "a.yaml", "grid"], 36 + 3),
        (["a.yaml", "grid", "a.yaml"], 36 + 3),
        (["grid", "--store", database, "--store", f"sqlite:///{copy}"], 36 + 1),
    ):
        assert main([*named, "--join", "--by", "experiment"]) == 0
        assert f"{trials} trials" in capsys.readouterr().out, named


def test_without_a_store_nothing_is_created(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2

    assert "no results yet" in capsys.readouterr().err
    assert list((workspace / "mlruns").iterdir()) == []


def test_html_is_written_beside_what_is_printed(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.html"

    assert main(["grid", "--html", str(path), "--top", "2"]) == 0

    page = path.read_text(encoding="utf-8")
    captured = capsys.readouterr()
    assert "adam leads" in captured.out
    assert str(path) in captured.err
    # All configs stand in the page, whatever the terminal shows.
    assert page.count('<tr><td class="n">') >= 12
    assert "Learning-rate sensitivity" in page


def test_html_that_cannot_be_written_is_bad_input(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", "--html", str(tmp_path / "absent" / "a.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_latex(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "--format", "latex"]) == 0
    output = capsys.readouterr().out
    assert "\\begin{longtable}" in output
    assert "val/accuracy" in output


def test_sections_and_baseline(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "--section", "paired", "--baseline", "sgd"]) == 0

    output = capsys.readouterr().out
    assert "Pairs, seed by seed" in output
    assert "adam − sgd" in output
    assert "Configs" not in output


def test_json_has_all_sections_unless_some_are_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["grid", "--format", "json"])
    whole = json.loads(capsys.readouterr().out)["experiments"][0]
    main(["grid", "--format", "json", "--section", "cost"])
    part = json.loads(capsys.readouterr().out)["experiments"][0]

    assert {"paired", "budget", "sensitivity", "provenance"} <= set(whole)
    assert set(part) == {"experiment", "cost"}


def test_joined_experiments_compete(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "from-file", "--join", "--by", "experiment"]) == 0

    output = capsys.readouterr().out
    assert output.startswith("grid + from-file\n")
    assert "39 trials" in output
    assert "grid leads" in output or "from-file leads" in output


@pytest.mark.slow
def test_stores_are_read_side_by_side(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlruns").mkdir()
    other = open_store(tmp_path)
    add(other, "grid", [sweep_run(), *small_grid()[:9]], begin=1)
    stores = [
        argument
        for folder in (project, tmp_path)
        for argument in ("--store", f"sqlite:///{folder}/mlruns/mlflow.db")
    ]

    assert main(["grid", *stores]) == 0
    apart = capsys.readouterr().out
    assert main(["grid", *stores, "--join", "--by", "experiment"]) == 0

    assert "36 trials" in apart
    assert "9 trials" in apart
    assert "45 trials" in capsys.readouterr().out


def test_conditions_are_read_as_in_an_experiment_file() -> None:
    assert conditions(["lr=1e-2", "model.hidden=[32, 32]", "optimizer=sgd", "optimizer=adam"]) == {
        "lr": 0.01,
        "model.hidden": [32, 32],
        "optimizer": ["sgd", "adam"],
    }
    with pytest.raises(InputError, match="FIELD=VALUE"):
        conditions(["=3"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_loses_no_character_whatever_the_encoding(
    project: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(
        sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True)
    )
    assert main(["grid", "--format", "json", "--section", "verdict"]) == 0
    (experiment,) = json.loads(written.getvalue().decode(encoding))["experiments"]
    (standing,) = experiment["verdict"]["standings"]
    assert "0.9803 ± 0.0015" in standing["sentence"]


@pytest.mark.slow
def test_output_that_a_terminal_cannot_encode_is_no_error(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.compare", "grid"],
        capture_output=True,
        env={
            "PYTHONIOENCODING": "ascii",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "",
        },
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert b"0.9803 ? 0.0015" in done.stdout


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys\nfrom harness.compare import parser\nparser().format_help()\n"
        "print({'torch', 'mlflow', 'pandas', 'rich', 'pydantic'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_a_sweeps_report_is_stored_with_its_run(project: Path) -> None:
    from harness.analysis.comparison import Question
    from harness.report.html import REPORT_FILE, attach_report
    from harness.store.read.results import read_results

    store = open_store(project)
    results = read_results(store, "grid")

    attach_report(store, results, Question())

    assert results.details is not None
    page = results.details.text(results.parent_id, REPORT_FILE)
    assert page is not None
    assert page.startswith("<!doctype html>")
    assert "adam leads" in page
