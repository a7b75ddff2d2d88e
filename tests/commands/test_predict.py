"""`harness.predict` on runs with real weights."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.entities import Metric, Param, RunTag
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

from harness.core.metrics import BEST_EPOCH
from harness.core.records import Ended
from harness.experiment import trial
from harness.experiment.trial import make_trial_id
from harness.inference.trained_model import TrainedModel, find_run
from harness.predict import main
from harness.store.artifacts.trial_files import write_weights
from harness.store.names import TAG_ARTIFACTS, TAG_SUPERSEDED, WEIGHTS_FILE
from harness.store.read.runs import StoredRun
from harness.store.store import Store, open_store
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.stored import sweep_run, trial_run
from tests.support import make_trial

TABLE: dict[str, Any] = {
    "dataset": "diabetes",
    "loss": "mse",
    "metrics": ["r2"],
    "lr": 0.01,
    "model": {"name": "mlp", "hidden": []},
}
DIGITS: dict[str, Any] = {"epochs": 5}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Makes a store with runs of digits (two with weights, the second better; one without) and of a
    regression."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        (folder / "mlruns").mkdir()
        patch.chdir(folder)
        store = open_store(folder)
        digits = store.experiment("digits", create=True)
        trained(store, digits, 0.7, seed=0, **DIGITS)
        trained(store, digits, 0.9, seed=1, **DIGITS)
        add(store, digits, trial_run(0.99, seed=2, name="untold", **DIGITS))
        add(store, digits, sweep_run())
        table = store.experiment("table", create=True)
        trained(store, table, 0.5, **TABLE)
        add(store, table, sweep_run())
        none = store.experiment("none", create=True)
        add(store, none, trial_run(0.9))
        add(store, none, sweep_run())
        yield store


def add(store: Store, experiment_id: str, run: StoredRun) -> str:
    run_id = store.client.create_run(experiment_id, run_name=run.name).info.run_id
    store.client.log_batch(
        run_id,
        [Metric(k, v, 0, 0) for k, v in run.metrics.items()],
        [Param(k, v) for k, v in run.params.items()],
        [RunTag(k, v) for k, v in run.tags.items()],
    )
    store.client.set_terminated(run_id)
    return str(run_id)


def trained(store: Store, experiment_id: str, score: float, **fields: Any) -> None:
    """Adds a run as a sweep does: with its weights, and its model's metrics."""
    trial = make_trial(**fields)
    *_, ended = train(TrainingSetup(trial, Path()), test_outputs=True)
    assert isinstance(ended, Ended)
    assert ended.test_outputs is not None
    final = {f"final/{name}": value for name, value in ended.final.items()}
    tags = {TAG_ARTIFACTS: "complete"}
    run = trial_run(score, tags=tags, name=f"seed={trial.seed}", **fields)
    fingerprint = trial.fingerprint(Path())
    ids = {"trial_id": make_trial_id(trial.identity(), fingerprint)}
    run = replace(run, metrics=run.metrics | final, params=run.params | ids)
    run_id = add(store, experiment_id, run)
    folder = Path(f"weights-{run_id}")
    write_weights(folder, ended.test_outputs)
    store.client.log_artifacts(run_id, str(folder))


def run_of(store: Store, experiment: str, seed: int) -> Any:
    found = store.client.search_runs(
        [store.experiment(experiment, create=False)], f"params.seed = '{seed}'"
    )
    return found[0]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_test_split_scores_as_at_training(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(store, "digits", 0)

    assert main([run.info.run_id, "--output", str(tmp_path), "--device", "cpu"]) == 0

    output = capsys.readouterr().out
    assert f"test/accuracy   {run.data.metrics['final/test/accuracy']:.4f}\n" in output
    assert "at training" not in output
    found = rows(tmp_path / "predictions.csv")
    right = sum(row["true"] == row["predicted"] for row in found) / len(found)
    assert right == pytest.approx(run.data.metrics["final/test/accuracy"])
    assert Image.open(tmp_path / "gallery.png").width > 500


@pytest.mark.parametrize("reference", ["digits", "run"])
def test_the_same_data_is_known_by_its_checksum_not_by_the_trials_id(
    reference: str, store: Store, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may give a trial another id."""
    run_id = run_of(store, "digits", 1).info.run_id
    run = find_run(store, run_id if reference == "run" else reference)
    monkeypatch.setattr(trial, "REVISED_VALUES", {("precision", "fp32"): "fp32 revised"})
    assert TrainedModel.rebuild(run, run.load_weights(store), data_root, "cpu").same_data
    other = replace(run, data="0" * 32)
    assert not TrainedModel.rebuild(other, run.load_weights(store), data_root, "cpu").same_data


def test_an_experiment_means_its_best_run_with_weights(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run of seed 2 scores higher, but has no weights."""
    assert main(["digits", "--output", str(tmp_path)]) == 0

    assert run_of(store, "digits", 1).info.run_id in capsys.readouterr().out


@pytest.mark.parametrize("length", [8, 16])
def test_a_run_is_found_by_the_beginning_of_its_ids(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    run = run_of(store, "table", 0)

    for reference in (run.info.run_id[:length], run.data.params["trial_id"][:length]):
        assert main([reference, "--output", str(tmp_path)]) == 0
        assert run.info.run_id in capsys.readouterr().out


def test_a_regression_writes_values_and_a_scatter(store: Store, tmp_path: Path) -> None:
    run = run_of(store, "table", 0)

    assert main(["table", "--output", str(tmp_path)]) == 0

    found = rows(tmp_path / "predictions.csv")
    true = np.array([float(row["true"]) for row in found])
    predicted = np.array([float(row["predicted"]) for row in found])
    r2 = 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert r2 == pytest.approx(run.data.metrics["final/test/r2"], abs=1e-4)
    assert (tmp_path / "predicted_over_true_target_1.png").is_file()


def test_image_files_are_read_as_the_data_set_stores_its_own(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits that are enlarged and saved as files get the predictions of the originals."""
    digits = load_digits()
    paths = []
    for i in range(40):
        grey = (digits.images[i] * 255 / 16).round().astype("uint8")
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(grey).resize((80, 80), Image.Resampling.NEAREST).save(paths[-1])

    assert main(["digits", *map(str, paths), "--output", str(tmp_path)]) == 0

    found = [int(row["predicted"]) for row in rows(tmp_path / "predictions.csv")]
    assert np.mean(np.array(found) == digits.target[:40]) > 0.8
    assert "0.png: 0 (" in capsys.readouterr().out
    assert (tmp_path / "gallery.png").is_file()


def test_rows_of_a_file_are_scaled_as_in_training(store: Store, tmp_path: Path) -> None:
    """The test split's own rows, given as a file, get the predictions of the test split."""
    main(["table", "--output", str(tmp_path / "test")])
    from sklearn.model_selection import train_test_split

    table = load_diabetes(scaled=False)
    _, held_out = train_test_split(table.data, test_size=0.2, random_state=0)
    # In another order than the data set's, and with a column that is no feature.
    lines = [",".join([*reversed(table.feature_names), "remark"])]
    lines += [",".join([*map(repr, map(float, row[::-1])), "none"]) for row in held_out]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")

    assert main(["table", str(path), "--output", str(tmp_path / "file")]) == 0

    from_file = rows(tmp_path / "file" / "predictions.csv")
    of_split = rows(tmp_path / "test" / "predictions.csv")
    assert from_file[0]["input"] == "rows.csv:2"
    torch.testing.assert_close(
        [float(row["predicted"]) for row in from_file],
        [float(row["predicted"]) for row in of_split],
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("reference", "output"),
    [
        ("digit", r"did you mean 'digits'"),
        ("0000ffff0000", r"no run or experiment"),
        ("none", r"no run of 'none' has weights.*\n.*artifacts: best"),
        ("../../etc", r"no run or experiment"),
    ],
)
def test_references_that_name_no_run_are_errors(
    store: Store, capsys: pytest.CaptureFixture[str], reference: str, output: str
) -> None:
    assert main([reference]) == 2
    assert re.search(output, capsys.readouterr().err)


def test_the_error_for_a_run_without_weights_lists_runs_with_weights(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([run_of(store, "digits", 2).info.run_id]) == 2

    output = capsys.readouterr().err
    assert "untold) has no weights" in output
    assert run_of(store, "digits", 0).info.run_id in output


def test_the_error_for_an_ambiguous_beginning_lists_the_runs(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.inference.trained_model import MAX_LISTED
    from harness.store.read import results

    runs = [("digits", run_of(store, "digits", seed)) for seed in (0, 1)]
    monkeypatch.setattr(results, "find_trials", lambda store, text: runs)

    assert main(["ab"]) == 2
    assert "2 runs' ids" in capsys.readouterr().err
    assert MAX_LISTED > 1


def test_damaged_weights_are_rejected(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(store, "digits", 0)
    path = Path(run.info.artifact_uri.removeprefix("file://"), WEIGHTS_FILE)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    try:
        assert main([run.info.run_id]) == 2
    finally:
        path.write_bytes(whole)
    assert "damaged" in capsys.readouterr().err


def test_runs_of_one_data_set_with_other_options_are_not_ranked_together(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = store.experiment("gates", create=True)
    for gate in ("and", "xor"):
        fields: dict[str, Any] = {"dataset": {"name": "logic_gate", "gate": gate}, "name": gate}
        add(store, gates, trial_run(0.5, tags={TAG_ARTIFACTS: "complete"}, **fields))
    add(store, gates, sweep_run())

    assert main(["gates"]) == 2
    assert "models of several data sets" in capsys.readouterr().err


def test_a_superseded_run_is_found_by_its_whole_id_alone(store: Store) -> None:
    from harness.inference.trained_model import find_run

    again = store.experiment("again", create=True)
    tags = {TAG_ARTIFACTS: "complete"}
    new = add(store, again, trial_run(0.6, seed=77))
    old = add(store, again, trial_run(0.5, seed=77, tags=tags | {TAG_SUPERSEDED: "true"}))
    trial_id = store.client.get_run(new).data.params["trial_id"]

    assert find_run(store, trial_id).run_id == new
    assert find_run(store, old).run_id == old


def test_weights_of_another_epoch_than_the_ranked_one_are_reported(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(store, "digits", 0)
    output = []
    for best in (3, 5):
        store.client.log_metric(run.info.run_id, BEST_EPOCH, best)
        assert main([run.info.run_id, "--output", str(tmp_path)]) == 0
        output.append(capsys.readouterr().out)

    line = (
        "this run ranks by epoch 3 (val/accuracy 0.7000); its weights are from the last epoch, 5\n"
    )
    assert line in output[0]
    assert "ranks by" not in output[1]


PETS = """\
weight,colour,age,indoor,kind
4.5,black,3,true,cat
30,brown,5,false,dog
5,white,3,true,cat
25,brown,7,false,dog
3.5,black,7,true,cat
28,brown,3,false,dog
4,white,5,true,cat
27,black,7,false,dog
"""


@pytest.fixture(scope="module")
def pets(store: Store) -> Path:
    """Adds a run on a user's table, with categories as text, numbers and booleans."""
    path = Path.cwd() / "pets.csv"
    path.write_text(PETS)
    dataset = {"name": "csv", "path": str(path), "target": "kind", "categorical": ["age"]}
    trained(
        store,
        store.experiment("pets", create=True),
        1.0,
        dataset={**dataset, "missing": "mean", "test_fraction": 0.0},
        epochs=20,
        val_fraction=0.0,
    )
    add(store, store.experiment("pets", create=False), sweep_run())
    return path


def predicted(arguments: list[str], folder: Path) -> list[dict[str, str]]:
    assert main([*arguments, "--output", str(folder)]) == 0
    return rows(folder / "predictions.csv")


def test_the_training_table_is_read_as_in_training(
    store: Store, pets: Path, tmp_path: Path
) -> None:
    """The training table's own rows, with the target beside them."""
    of_split = predicted(["pets"], tmp_path / "split")

    from_file = predicted(["pets", str(pets)], tmp_path / "file")

    assert [row["input"] for row in from_file] == [f"pets.csv:{line}" for line in range(2, 10)]
    assert [row["predicted"] for row in from_file] == [row["predicted"] for row in of_split]
    for row, same in zip(from_file, of_split, strict=True):
        assert float(row["probability"]) == pytest.approx(float(same["probability"]), abs=1e-5)


def test_columns_are_found_by_their_names(store: Store, pets: Path, tmp_path: Path) -> None:
    """They may be in any order, without the target, with other columns, and spelled differently."""
    whole = predicted(["pets", str(pets)], tmp_path / "whole")
    table = [line.split(",") for line in PETS.splitlines()]
    lines = [["indoor", "colour", "name", "age", "weight"]]
    lines += [[r[3].upper(), r[1], "Rex", f"{r[2]}.0", f"{float(r[0]):e}"] for r in table[1:]]
    other = tmp_path / "other.csv"
    other.write_text("\n\n".join(map(",".join, lines)))

    found = predicted(["pets", str(other)], tmp_path / "other")

    assert [row["probability"] for row in found] == [row["probability"] for row in whole]
    assert [row["input"] for row in found][:2] == ["other.csv:3", "other.csv:5"]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("weight,colour,age\n4,black,3\n", ["no column 'indoor'", "allowed: age, colour"]),
        (
            "weight,colour,age,indoor\n4,blakc,3,true\n5,green,4,false\n",
            ["'colour' has 'blakc'", "did you mean 'black'?", "'green'", "'age' has '4'"],
        ),
        ("weight,colour,age,indoor\nheavy,black,3,true\n", ["'weight': 'heavy' in row 1"]),
        ("4,black,3,true\n5,white,3,true\n", ["no column 'weight'"]),
        ("weight,colour,age,indoor\n", ["has no rows"]),
    ],
)
def test_a_table_with_other_columns_is_rejected(
    store: Store,
    pets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    output: list[str],
) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content)

    assert main(["pets", str(path)]) == 2
    error = capsys.readouterr().err
    assert "other.csv" in error
    assert [text for text in output if text not in error] == []


def test_empty_cells_are_filled_as_in_training(store: Store, pets: Path, tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text(
        "weight,colour,age,indoor\n,,3,true\n15.875,black,3,true\n15.875,brown,3,true\n"
    )

    gaps, black, brown = predicted(["pets", str(path)], tmp_path)

    # black and brown are equally frequent; the first of equals counts.
    assert gaps["probability"] == black["probability"] != brown["probability"]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("1,2,3\n", "3 columns; the model takes 10"),
        (
            "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6\n1,2,3,4,x,6,7,8,9,10\n",
            "bad.csv:2: column 5 is no number: 'x'",
        ),
        ("1,2,3,4,,6,7,8,9,10\n", "bad.csv:1: has an empty cell in column 's1'"),
        ("a,b,c,d,e,f,g,h,i,j\n1,2,3,4,5,6,7,8,9,10\n", "names none of the features"),
        ("age,sex,bmi,bp,s1,s2,s3,s4,s5,s7\n1,2,3,4,5,6,7,8,9,10\n", "no column 's6'"),
        ("", "no CSV table"),
    ],
)
def test_bad_tables_are_rejected(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, output: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)

    assert main(["table", str(path)]) == 2
    assert output in capsys.readouterr().err


def test_all_bad_files_are_reported_at_once(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")

    assert main(["digits", str(text), str(tmp_path / "absent.png")]) == 2
    output = capsys.readouterr().err
    assert "text.png: is no image" in output
    assert "absent.png: does not exist" in output


def test_class_names_cannot_act_as_formulas(tmp_path: Path) -> None:
    from harness.core.text import format_csv
    from harness.store.artifacts.figures import Predictions
    from harness.store.artifacts.trial_files import prediction_columns

    found = Predictions(np.zeros(1), np.zeros(1, int), np.ones((1, 1)), ("=cmd()",))

    columns = prediction_columns(found, targets_known=False)
    text = format_csv(["input", *columns], [("=x.png", *(c[0] for c in columns.values()))])
    assert "'=cmd()" in text
    assert "'=x.png" in text


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys\nfrom harness.predict import parser\nparser().format_help()\n"
        "print({'torch', 'mlflow', 'pandas', 'matplotlib', 'pydantic'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
