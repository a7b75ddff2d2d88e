"""`harness.compare` on results that another program made, from the command line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, validate

from harness.compare import main
from harness.report.schema import schema
from harness.store.read.runs import StoredRun
from harness.store.store import open_store
from tests.external_support import LEADS, runs
from tests.stored import add

ROLES = [
    *("--by", "optimizer", "--task", "dataset", "--seed", "seed"),
    *("--metric", "acc:max", "--config", "lr"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    runs().to_csv("results.csv", index=False)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_a_csv_file_in_every_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--csv", "results.csv", *ROLES]

    for form in ("table", "markdown", "latex"):
        assert main([*command, "--format", form]) == 0
        assert "lion leads with acc" in said(capsys)
    assert main([*command, "--format", "json", "--html", "report.html"]) == 0
    whole = json.loads(capsys.readouterr().out)
    validate(whole, schema(), Draft202012Validator)
    assert whole["experiments"][0]["overview"]["epoch"] == "given"
    assert "lion" in Path("report.html").read_text()
    assert main([*command, "--format", "csv", "--where", "dataset=wine", "--top", "1"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["optimizer"], row["lr"], row["dataset"], row["n"]) == ("lion", "0.01", "wine", "6")
    assert float(row["mean"]) == pytest.approx(
        runs().query("optimizer == 'lion' and lr == 0.01 and dataset == 'wine'")["acc"].mean()
    )


def test_several_files_give_one_report_each(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(seeds=3).to_csv("others.csv", index=False)

    assert main(["--csv", "results.csv", "--csv", "others.csv", *ROLES, "--format", "json"]) == 0

    whole = json.loads(capsys.readouterr().out)["experiments"]
    assert [of["experiment"] for of in whole] == ["results.csv", "others.csv"]
    assert [of["overview"]["trials"] for of in whole] == [72, 36]


def test_conditions_may_name_columns_that_nothing_else_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs()
    frame["width"] = frame["lr"].map({0.001: 8, 0.01: 16})
    frame.to_csv("results.csv", index=False)

    assert main(["--csv", "results.csv", *ROLES[:-2], "--where", "width=16"]) == 0

    assert "36 trials (36 done) of 6 configs, 6 seeds. Left out by --where: 36" in said(capsys)


def test_an_mlflow_experiment(
    folder: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mlruns").mkdir()
    shutil.copy(empty_database, "mlruns/mlflow.db")
    add(
        open_store(folder),
        "theirs",
        [
            StoredRun("", "", "FINISHED", 0, params=dict(params), metrics={"acc": 0.5 + lead})
            for optimizer, lead in LEADS.items()
            for params in [{"optimizer": optimizer, "seed": "0", "dataset": "digits"}]
        ],
        begin=1,
    )

    assert main(["--mlflow", "theirs", *ROLES[:-2]]) == 0

    assert "lion leads with acc 0.5400 ± – (n = 1); next adam, 0.5200" in said(capsys)


def test_names_of_code_run_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text("open('ran', 'w').close()\nclass Net: pass\n")
    frame = runs(seeds=2, tasks=("own.py:Net", "own:Net"), model="own.py:Net")
    frame.to_csv("results.csv", index=False)

    assert main(["--csv", "results.csv", *ROLES, "--section", "all"]) == 0

    assert "own.py:Net" in said(capsys)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--csv", "results.csv"], "--csv needs --by and --metric"),
        (["--mlflow", "theirs", "--by", "optimizer"], "--mlflow needs --metric"),
        (["--csv", "out.csv", *ROLES], "--csv out.csv: does not exist --csv reads results; to"),
        (["mine", "--csv", "out.csv", *ROLES], "'mine' is an experiment of ours"),
        (["--csv", "results.csv", *ROLES, "--join"], "--join does not join results of --csv"),
        (["mine", "--task", "dataset"], "--task is for results of --csv or --mlflow"),
        (["mine", "--seed", "seed"], "--seed is for results of --csv or --mlflow"),
        (["--csv", "results.csv", *ROLES, "--where", "wd=1"], "--where: there is no column 'wd'"),
        (["--csv", "results.csv", *ROLES, "--baseline", "x"], "no contender is called 'x'"),
        (["--mlflow", "theirs", *ROLES], "there is no store"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main(command) == 2
    assert message in said(capsys)
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv"]
