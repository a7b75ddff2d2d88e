"""Tables of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.components.base import Task
from harness.components.datasets import csv
from harness.core.errors import InputError
from harness.training.batch_sources import BatchSource, InMemorySource
from harness.training.data import load_splits
from tests.support import make_trial

PETS = """\
weight,colour,indoor,age,kind
4.5,black,yes,3,cat
30,brown,no,5,dog
,white,yes,2,cat
25,,no,7,dog
3.5,black,yes,,cat
28,brown,no,4,dog
"""


def table(tmp_path: Path, text: str = PETS, **options):
    (tmp_path / "pets.csv").write_text(text)
    values = {"path": "pets.csv", "target": "kind"} | options
    return csv.load(csv.CSVOptions.model_validate(values), tmp_path)


def first_column(source: BatchSource) -> list[float]:
    assert isinstance(source, InMemorySource)
    return source.inputs[:, 0].tolist()


def test_columns_are_encoded_by_their_type(tmp_path) -> None:
    raw = table(tmp_path, missing="drop")
    # weight, age, colour=black, colour=brown, indoor=no, indoor=yes
    assert raw.train.inputs.tolist() == [
        [4.5, 3, 1, 0, 0, 1],
        [30, 5, 0, 1, 1, 0],
        [28, 4, 0, 1, 1, 0],
    ]
    assert raw.info.task is Task.BINARY
    assert raw.info.class_names == ("cat", "dog")
    assert raw.train.targets.tolist() == [0, 1, 1]


def test_columns_can_be_named(tmp_path) -> None:
    options: dict[str, Any] = {
        "missing": "drop",
        "categorical": ["age"],
        "ignore": ["weight", "indoor"],
    }
    raw = table(tmp_path, **options)
    # three colours and four ages, one of each to a row
    assert raw.info.features == 3 + 4
    assert raw.train.inputs.sum(1).tolist() == [2, 2, 2, 2]


def test_missing_values_are_named_and_counted(tmp_path) -> None:
    with pytest.raises(InputError) as caught:
        table(tmp_path)
    assert "missing in: weight (1), colour (1), age (1)" in str(caught.value)
    assert "drop, mean or median" in str(caught.value)
    assert "pets.csv" in str(caught.value)


@pytest.mark.parametrize("by", ["mean", "median"])
def test_missing_targets_are_never_filled_in(by, tmp_path) -> None:
    with pytest.raises(InputError, match=r"missing in: kind \(1\)"):
        table(tmp_path, PETS + "1,black,yes,1,\n", missing=by)


@pytest.mark.parametrize(
    ("values", "options", "task", "classes"),
    [
        (["0", "1", "1"], {}, Task.BINARY, ("0", "1")),
        (["10", "9", "2"], {}, Task.MULTICLASS, ("2", "9", "10")),
        (["true", "false", "true"], {}, Task.BINARY, ("False", "True")),
        (["b", "a", "c"], {}, Task.MULTICLASS, ("a", "b", "c")),
        (["0.5", "1", "2"], {}, Task.REGRESSION, ()),
        ([str(n) for n in range(21)], {}, Task.REGRESSION, ()),
        ([str(n) for n in range(20)], {}, Task.MULTICLASS, tuple(map(str, range(20)))),
        (["0", "1", "2"], {"task": "regression"}, Task.REGRESSION, ()),
        (["0.5", "1.5", "0.5"], {"task": "classification"}, Task.BINARY, ("0.5", "1.5")),
    ],
)
def test_the_task_is_read_off_the_target(values, options, task, classes, tmp_path) -> None:
    text = "x,kind\n" + "".join(f"{n},{value}\n" for n, value in enumerate(values))
    raw = table(tmp_path, text, **options)
    assert raw.info.task is task
    assert raw.info.class_names == classes
    if classes and "true" not in values:
        assert [classes[t] for t in raw.train.targets] == values
    if not classes:
        assert raw.train.targets[:, 0].tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"target": ""}, ["target is not set", "the columns are: weight, colour"]),
        ({"target": "knid"}, ["target: no column 'knid'", "did you mean 'kind'?"]),
        ({"ignore": ["agee"], "numeric": ["wieght"]}, ["no column 'agee'", "no column 'wieght'"]),
        ({"ignore": ["age"], "numeric": ["age"]}, ["'age' is named twice"]),
        ({"numeric": ["colour"], "missing": "drop"}, ["'black' in row 1 is not a finite number"]),
        ({"path": ""}, ["path is not set"]),
        ({"path": "cats.csv"}, ["cats.csv does not exist"]),
        ({"target": "weight", "missing": "drop", "stratify": True}, ["stratify"]),
        ({"separator": ";"}, ["no column 'kind'"]),
    ],
)
def test_a_wrong_description_of_a_table_is_explained(options, messages, tmp_path) -> None:
    with pytest.raises(InputError) as caught:
        table(tmp_path, **options)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("x,kind\n", "has no rows"),
        ("x,kind\n1,a\n2,a\n", "only one class: a"),
        ("kind\na\nb\n", "no column is left"),
        ("x,kind\n1,2,a\n3,4,b\n", "more columns than its first line"),
        ("x,kind\ninf,a\n1,b\n", "is not a finite number"),
        ("x,kind\n" + "".join(f"n{n},{n % 2}\n" for n in range(101)), "101 different values"),
    ],
)
def test_a_table_that_teaches_nothing_is_refused(text, message, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "overrides", "where"),
    [
        (PETS, [], "pets.yaml:7: "),
        (PETS, ["dataset.target=knidd"], "override 'dataset.target=knidd': "),
        (PETS, ["dataset.standardise=false"], "pets.yaml:7: "),
        ("weight,kind\n", [], "pets.yaml:4: "),
    ],
)
def test_a_wrong_table_is_told_where_it_was_asked_for(text, overrides, where, tmp_path) -> None:
    from harness.experiment.loading import load

    path = tmp_path / "pets.csv"
    path.write_text(text)
    file = tmp_path / "pets.yaml"
    file.write_text(
        "trial:\n  lr: 0.1\n  optimizer: sgd\n  dataset:\n    name: csv\n"
        f"    path: {path}\n    target: knid\n  model: mlp\n"
    )
    with pytest.raises(InputError) as caught:
        load(file, overrides, tmp_path)
    (problem,) = caught.value.problems
    assert f"{where}dataset csv: {path}" in str(problem)
    assert str(problem).count(str(path)) == 1


def test_an_absolute_path_is_not_looked_for_elsewhere(tmp_path) -> None:
    absent = tmp_path / "nope.csv"
    with pytest.raises(InputError) as caught:
        table(tmp_path, path=str(absent))
    assert f"{absent} does not exist" in str(caught.value)
    assert "put " not in str(caught.value)


SHOP = """\
size,red,sale,grade,visits,price
1,0,True,low,0,1.5
2,1,False,high,3,2
3,1,True,mid,12,0
4,0,True,low,1,7.25
"""


def shop(tmp_path: Path, **options):
    return table(tmp_path, SHOP, **{"ignore": [], **options})


@pytest.mark.parametrize("task", ["auto", "multilabel"])
def test_several_columns_of_0_and_1_are_labels(tmp_path, task) -> None:
    ignore = ["grade", "visits", "price"]
    raw = shop(tmp_path, target=["red", "sale"], ignore=ignore, task=task)
    assert raw.info.task is Task.MULTILABEL
    assert (raw.info.class_names, raw.info.targets) == (("red", "sale"), 2)
    assert raw.train.targets.tolist() == [[0, 1], [1, 0], [1, 1], [0, 1]]
    assert raw.train.targets.dtype == torch.float32
    assert raw.info.shape == (1,)


def test_several_columns_of_numbers_are_a_regression(tmp_path) -> None:
    raw = shop(tmp_path, target=["visits", "price"], ignore=["grade"])
    assert (raw.info.task, raw.info.targets) == (Task.REGRESSION, 2)
    assert raw.train.targets.tolist() == [[0, 1.5], [3, 2], [12, 0], [1, 7.25]]


def test_counts(tmp_path) -> None:
    raw = shop(tmp_path, target="visits", task="count", ignore=["grade"])
    assert (raw.info.task, raw.train.targets.tolist()) == (Task.COUNT, [[0], [3], [12], [1]])


def test_ordered_classes_have_the_order_that_is_given(tmp_path) -> None:
    order = ["low", "mid", "high", "top"]
    raw = shop(tmp_path, target="grade", task="ordinal", order=order)
    assert (raw.info.task, raw.info.class_names) == (Task.ORDINAL, tuple(order))
    assert raw.train.targets.tolist() == [0, 2, 1, 0]


def test_ordered_classes_that_are_numbers_need_no_order(tmp_path) -> None:
    raw = shop(tmp_path, target="visits", task="ordinal", ignore=["grade"])
    assert raw.info.class_names == ("0", "1", "3", "12")
    assert raw.train.targets.tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("given", [{"target": ""}, {"target": "grade", "stratify": True}])
def test_an_autoencoder_needs_no_target(tmp_path, given) -> None:
    text = SHOP + "5,1,True,high,4,4\n6,1,False,mid,4,4\n"
    raw = table(tmp_path, text, task="autoencoding", test_fraction=0.5, **given)
    inputs = ["size", "red", "visits", "price", "sale=False", "sale=True"]
    grades = [] if given["target"] else ["grade=high", "grade=low", "grade=mid"]
    assert raw.columns is not None
    assert sorted(raw.columns.inputs) == sorted(inputs + grades)
    assert raw.info.shape == (len(inputs + grades),)
    assert raw.info.task is Task.AUTOENCODING
    assert (raw.info.targets, raw.info.classes) == (raw.info.features, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ["red", "price"], "task": "multilabel"}, "'price' has '1.5': a label is 0"),
        ({"target": ["red", "grade"], "task": "multilabel"}, "'grade' has 'low': a label is"),
        ({"target": ["red", "grade"]}, "column 'grade': 'low' in row 1 is not a finite number"),
        ({"target": ["red", "sale"], "task": "classification"}, "classification has one target"),
        ({"target": ["red", "sale"], "task": "ordinal"}, "task: ordinal has one target"),
        ({"target": ["red", "sale"], "stratify": True}, "an example has several labels"),
        ({"target": ["red", "red"]}, "column 'red' is named twice"),
        ({"target": ["red", "sal"]}, "target: no column 'sal'"),
        ({"target": []}, "target is not set"),
        ({"target": "price", "task": "count"}, r"'price': 1.5 in row 1 is no count"),
        ({"target": "size", "task": "count", "stratify": True}, "a count has no classes"),
        ({"target": "grade", "task": "ordinal"}, r"(?s)order is not set.*order: \[high, low, mid"),
        (
            {"target": "grade", "task": "ordinal", "order": ["low", "mi", "high"]},
            "'mid' is missing",
        ),
        ({"target": "grade", "task": "ordinal", "order": ["low", "low"]}, "'low' is given twice"),
        ({"target": "grade", "order": ["low", "mid", "high"]}, "only the classes of task: ordinal"),
    ],
)
def test_targets_that_do_not_fit_the_task_are_refused(tmp_path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        shop(tmp_path, **options)


def test_a_count_below_zero_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="'y': -1 in row 2 is no count"):
        table(tmp_path, "x,y\n1,2\n2,-1\n", target="y", task="count")


def test_other_separators_and_decimal_points(tmp_path) -> None:
    raw = table(tmp_path, "x;kind\n1,5;a\n2,5;b\n", separator=";", decimal=",")
    assert raw.train.inputs.tolist() == [[1.5], [2.5]]


def test_a_changed_table_is_read_again(tmp_path) -> None:
    assert len(table(tmp_path, "x,kind\n1,a\n2,b\n").train) == 2
    assert len(table(tmp_path, "x,kind\n1,a\n2,b\n3,b\n").train) == 3


def test_what_is_filled_in_comes_from_the_training_split_alone(tmp_path) -> None:
    chance = np.random.default_rng(0)
    column = chance.normal(size=60)
    rows = [f"{'' if n % 4 == 0 else value},{n % 2}\n" for n, value in enumerate(column)]
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(rows))
    dataset = {"name": "csv", "path": "t.csv", "target": "y", "missing": "mean"}
    parts = load_splits(
        make_trial(dataset={**dataset, "standardise": False}, val_fraction=0.2),
        tmp_path,
        torch.device("cpu"),
    )
    known = set(column[np.arange(60) % 4 != 0].astype(np.float32).tolist())
    held = {name: first_column(part) for name, part in parts.evaluated().items()}
    train = first_column(parts.train)
    mean = np.mean([value for value in train if value in known])
    filled = [v for part in (train, *held.values()) for v in part if v not in known]
    assert len(filled) == 15
    assert all(part for part in held.values())
    assert filled == pytest.approx([mean] * 15, rel=1e-5)
