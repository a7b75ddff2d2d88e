"""Cells of a table are read as they are written, or refused: numbers exactly, labels as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.components.base import RawData
from harness.components.datasets import csv
from harness.core.errors import InputError
from harness.experiment.trial import Choice
from harness.inference.inputs import read_inputs
from tests.components.synthetic_data import tensor_inputs

IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(folder: Path, text: str, **options) -> RawData:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    values = {"path": "t.csv", "target": "y", "standardise": False} | options
    chosen = csv.CSVOptions.model_validate(values)
    assert csv.info(chosen, folder) == csv.load(chosen, folder).info
    return csv.load(chosen, folder)


def refused(folder: Path, text: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        table(folder, text, **options)
    assert str(folder / "t.csv") in str(caught.value)
    return str(caught.value)


def column(*cells: str) -> str:
    """A table whose column x has these cells, and whose classes alternate."""
    return "x,y\n" + "".join(f'"{cell}",{"ab"[n % 2]}\n' for n, cell in enumerate(cells))


DECIMALS = st.one_of(
    st.decimals(-(10**6), 10**6, allow_nan=False, places=12).map(str),
    st.floats(-1e300, 1e300, allow_nan=False).map(repr),
    st.integers(-(2**53), 2**53).map(str),
)


@settings(IN_ONE_FOLDER, max_examples=50)
@given(cells=st.lists(DECIMALS, min_size=2, max_size=6))
def test_numbers_are_the_nearest_to_their_decimals(cells: list[str], tmp_path: Path) -> None:
    raw = table(tmp_path, column(*cells), standardise=True)
    assert tensor_inputs(raw.train)[:, 0].tolist() == [float(cell) for cell in cells]


LABELS = st.sampled_from(
    ["7", "007", "7.0", "07", "+7", "None", "NA", "nan", "null", "True", "true", "é", "a b", "1e3"]
)


@settings(IN_ONE_FOLDER, max_examples=60)
@given(
    cells=st.lists(LABELS, min_size=4, max_size=8).filter(lambda cells: len(set(cells)) > 1),
    of_target=st.booleans(),
)
def test_labels_are_what_is_written(cells: list[str], of_target: bool, tmp_path: Path) -> None:
    """Wherever two texts differ, the labels differ: by those of `categorical`, and by those of a
    target that the user says has classes, unless all are plain numbers."""
    if of_target:
        text = "x,y\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
        if all(cell in ("7", "7.0", "+7", "1e3") for cell in cells):
            return
        if {cell.lower() for cell in cells} == {"true"}:
            return
        raw = table(tmp_path, text, task="classification", test_fraction=0.0)
        found = [raw.info.class_names[number] for number in raw.train.targets]
    else:
        raw = table(tmp_path, column(*cells), categorical=["x"], test_fraction=0.0)
        assert raw.columns is not None
        ((_, categories),) = raw.columns.categorical
        found = [categories[row.argmax()] for row in tensor_inputs(raw.train)]
    assert found == cells


def test_leading_zeros_make_labels_of_a_target(tmp_path) -> None:
    text = "x,y\n" + "".join(f"{n},{label}\n" for n, label in enumerate(["007", "7", "12"] * 2))
    assert table(tmp_path, text).info.class_names == ("007", "12", "7")
    padded = table(tmp_path, text.replace(",7\n", ",007\n").replace("12", "012"))
    assert padded.info.class_names == ("007", "012")


def test_an_empty_cell_is_missing_in_a_column_of_text(tmp_path) -> None:
    said = refused(tmp_path, column("NA", "", "b", "b"), categorical=["x"])
    assert "missing in: x (1)" in said
    said = refused(tmp_path, column("NA", "b", "b", "b"))
    assert "missing in: x (1)" in said
    assert "list the column in `categorical`" in said


@pytest.mark.parametrize("label", ["cat ", " cat", "\tcat"])
@pytest.mark.parametrize("options", [{}, {"categorical": ["x"]}])
def test_blanks_around_a_label_are_told(label, options, tmp_path) -> None:
    said = refused(tmp_path, column("cat", label, "dog", "dog"), **options)
    assert f"column 'x' has blanks around a label: {label!r}" in said


def test_blanks_around_a_target_are_told(tmp_path) -> None:
    said = refused(tmp_path, "x,y\n1,cat\n2,cat \n3,dog\n")
    assert "column 'y' has blanks around a label: 'cat '" in said


@pytest.mark.parametrize(
    "number", ["12,000", "1'234.5", "1 000 000", "$5", "5 %", "0,5", "€12,000.00", "-3,25"]
)
def test_a_number_in_another_notation_is_no_category(number, tmp_path) -> None:
    assert f"column 'x' has {number!r}" in refused(tmp_path, column("1", number, "3", "oh"))
    text = "x,y\n" + "".join(f'{n},"{cell}"\n' for n, cell in enumerate([number, "a"] * 2))
    assert f"column 'y' has {number!r}" in refused(tmp_path, text)
    raw = table(tmp_path, column("1", number, "3", "oh"), categorical=["x"])
    assert raw.info.features == 4


@pytest.mark.parametrize("odd", ["?", "unknown", "3+", "-"])
def test_text_among_numbers_is_told(odd, tmp_path) -> None:
    said = refused(tmp_path, column("1", "2.5", odd, "4"))
    assert f"column 'x' has numbers, and {odd!r} among them" in said


@pytest.mark.parametrize("cells", [["small", "medium"], ["1.2.3", "2.0.1"], ["2024-01-02", "a"]])
def test_other_text_makes_categories(cells, tmp_path) -> None:
    assert table(tmp_path, column(*cells * 2)).info.features == 2


@pytest.mark.parametrize(
    "cells",
    [
        ["9007199254740993", "1"],
        ["9007199254740993", "1.5"],
        ["-9223372036854775809", "2"],
        ["99999999999999999999", "18446744073709551615"],
    ],
)
@pytest.mark.parametrize("of_target", [False, True])
def test_whole_numbers_that_floats_cannot_hold_are_refused(cells, of_target, tmp_path) -> None:
    text = column(*cells)
    options: dict[str, object] = {}
    if of_target:
        text = "x,y\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
        options = {"task": "regression"}
    said = refused(tmp_path, text, standardise=True, **options)
    assert f"{cells[0]} in row 1 has too many digits" in said
    assert f"column {'y' if of_target else 'x'!r}" in said


def test_large_whole_numbers_may_stand_in_an_unused_column(tmp_path) -> None:
    text = "id,x,y\n9007199254740993,1,a\n9007199254740992,2,b\n"
    assert table(tmp_path, text, ignore=["id"]).info.features == 1
    assert table(tmp_path, text, categorical=["id"]).info.features == 3


def test_what_float32_cannot_represent_is_told_before_anything_runs(tmp_path) -> None:
    text = column("16777216", "16777217", "16777216", "16777217")
    assert "column 'x': float32 cannot represent 16777217" in refused(tmp_path, text)
    assert table(tmp_path, text, standardise=True).info.features == 1
    regression = "x,y\n" + "".join(f"{n}.5,{16777216 + n}\n" for n in range(30))
    assert "column 'y': float32 cannot represent" in refused(tmp_path, regression)


@pytest.mark.parametrize(("separator", "name"), [(";", "';'"), ("\t", r"'\t'"), ("|", "'|'")])
@pytest.mark.parametrize("rows", ["1{0}a\n2{0}b\n", "1,5{0}a\n2,5{0}b\n"])
def test_another_separator_is_suggested(separator, name, rows, tmp_path) -> None:
    said = refused(tmp_path, f"x{separator}y\n" + rows.format(separator))
    assert f"set separator: {name}" in said


def test_new_rows_are_read_as_the_table_was(tmp_path) -> None:
    text = "n,code,y\n0.1,007,a\n0.2,7,b\n0.3,NA,a\n"
    raw = table(tmp_path, text, categorical=["code"])
    new = tmp_path / "new.csv"
    new.write_text("code,n\nNA,0.1\n007,0.30000000000000004\n")
    rows = read_inputs([new], raw).inputs
    assert rows.tolist() == [[0.1, 0, 0, 1], [0.30000000000000004, 1, 0, 0]]
    new.write_text("code,n\n07,0.1\n")
    with pytest.raises(InputError, match="'07', a category that the model was not trained on"):
        read_inputs([new], raw)
    new.write_text("code,n\n7,9007199254740993\n")
    with pytest.raises(InputError, match="too many digits"):
        read_inputs([new], raw)


@pytest.mark.parametrize(
    ("options", "revision"),
    [
        ({"standardise": False}, None),
        ({}, 2),
        ({"standardise": False, "categorical": ["x"]}, 2),
        ({"standardise": False, "task": "classification"}, 2),
        ({"standardise": False, "missing": "median"}, 2),
        ({"standardise": False, "missing": "drop"}, None),
    ],
)
def test_only_trials_whose_numbers_changed_have_new_ids(options, revision) -> None:
    choice = Choice.of("datasets", {"name": "csv", "path": "t.csv", "target": "y", **options})
    assert choice.identity().get("revision") == revision


@pytest.mark.parametrize(
    "name", ["iris", "wine", "breast_cancer", "diabetes", "california_housing"]
)
def test_a_table_that_is_not_standardised_keeps_its_ids(name) -> None:
    assert "revision" not in Choice.of("datasets", {"name": name, "standardise": False}).identity()
    assert Choice.of("datasets", {"name": name}).identity()["revision"] == 2
