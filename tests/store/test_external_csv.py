"""CSV files that other programs wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.components.shared.dataframes import SEPARATORS
from harness.core.errors import InputError
from harness.store.read.external.csv_file import read_csv
from harness.store.read.external.roles import ColumnRoles
from harness.store.read.results import Results
from tests.external_support import runs

ROLES = ColumnRoles(
    by=("optimizer",),
    task=("dataset",),
    seed="seed",
    metric="acc",
    direction="max",
    config=("lr",),
)
HEADER = "optimizer,dataset,lr,seed,acc\n"


def read(tmp_path: Path, content: str | bytes) -> Results:
    path = tmp_path / "results.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(path, ROLES)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_as_pandas_writes_it(tmp_path: Path, separator: str, end: str) -> None:
    frame = runs()
    text = frame.to_csv(index=False, sep=separator, lineterminator=end)

    table = read(tmp_path, "\ufeff" + text)

    assert table.trials["given/acc"].tolist() == frame["acc"].tolist()
    assert table.trials["lr"][0] == "0.001"
    assert table.trials["run_name"][71] == f"{tmp_path}/results.csv:73"
    assert table.external is not None
    assert [name for name, _ in table.external.facts] == ["file", "SHA-256", "rows"]


def test_blank_lines_and_blanks_around_names_do_not_count(tmp_path: Path) -> None:
    table = read(tmp_path, "\n optimizer , dataset,lr,seed, acc\n\nsgd, digits,1,0, .5\n,,,,\n")

    assert table.trials[["optimizer", "dataset", "run_name"]].iloc[0].tolist() == [
        "sgd",
        "digits",
        f"{tmp_path}/results.csv:4",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "results.csv: is empty"),
        (b"\n\n", "results.csv: is empty"),
        (HEADER.encode(), "results.csv: has a header, and no runs below it"),
        (HEADER.encode() + b"sgd,d,1,0\n", "results.csv:2: has 4 cells, and the header has 5"),
        (HEADER.encode() + b"sgd,d,1,0,0,93\n", "a cell with ',' in it stands in quotes"),
        (HEADER.encode() + b'"sgd,d,1,0,1\n', "results.csv:2: is no CSV"),
        (HEADER.encode() + b"sgd\xff,d,1,0,1\n", "results.csv:2: is no text in UTF-8"),
        (HEADER.encode() + b"\nsgd,d,1,0,high\n", "results.csv:3: acc is 'high'"),
        (b"PK\x03\x04\xff\xfe", "results.csv:1: is no text in UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, content)

    assert said in str(error.value)


def test_a_file_that_is_not_there_may_have_been_meant_as_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist\n.*use --format csv"):
        read_csv(tmp_path / "out.csv", ROLES)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_csv(tmp_path, ROLES)
