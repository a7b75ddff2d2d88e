"""Cells that other programs write: settings, scores and seeds."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store.names import ABSENT
from harness.store.read.external.columns import (
    plain_setting,
    read_scores,
    respelled,
    seed_numbers,
    setting_text,
    setting_texts,
)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1e-3, "1e-3", "0.001", " 0.0010 ", np.float64(0.001), np.float32(0.001)), "0.001"),
        ((1, 1.0, "1", "1.0", "+1", np.int64(1)), "1"),
        ((True, "True", "true", np.True_), "true"),
        ((None, nan, "", "  ", pd.NA, pd.NaT, np.nan), ABSENT),
        (([16, 32], (16, 32), np.array([16, 32])), "[16, 32]"),
        (("adam", " adam"), "adam"),
        (("007",), "007"),
        (("1_000",), "1_000"),
        (("10000000000000000001",), "10000000000000000001"),
        (("1.2.3",), "1.2.3"),
    ],
)
def test_one_setting_has_one_text(values: tuple[Any, ...], text: str) -> None:
    assert setting_texts(values) == [text] * len(values)


def test_a_truth_is_no_number_though_they_are_equal() -> None:
    assert setting_texts([1, True, 1.0, False, 0]) == ["1", "true", "1", "false", "0"]


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_plain_setting_is_what_was_written(value: Any) -> None:
    assert plain_setting(setting_text(value)) == value
    assert plain_setting(setting_text(str(value))) == value


def test_numbers_that_may_be_versions_are_noticed() -> None:
    assert respelled(["1.1", "1.10", "2", "2.0", "1e-3", "0.001", 1.1]) == [["1.1", "1.10"]]


@pytest.mark.parametrize(
    ("column", "values", "diverged"),
    [
        ([0.5, nan, inf, -inf], [0.5, nan, nan, nan], [False, False, True, True]),
        ([1, 2], [1.0, 2.0], [False, False]),
        (["0.5", "", "NA", "None", " 1e-3 "], [0.5, nan, nan, nan, 1e-3], [False] * 5),
        (["nan", "NaN", "-inf", "Infinity"], [nan] * 4, [True] * 4),
        ([None, 0.5, "0.25"], [nan, 0.5, 0.25], [False] * 3),
    ],
)
def test_scores(column: list[Any], values: list[float], diverged: list[bool]) -> None:
    scores = read_scores(pd.Series(column))

    np.testing.assert_array_equal(scores.values, values)
    assert scores.diverged.tolist() == diverged
    assert scores.missing.tolist() == [
        isnan(value) and not bad for value, bad in zip(values, diverged, strict=True)
    ]
    assert not scores.faults


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "float32", "boolean", "object", "string"])
def test_scores_of_every_type_of_column(dtype: str) -> None:
    scores = read_scores(pd.Series([1, None if dtype != "float32" else nan], dtype=dtype))

    assert scores.values[0] == 1
    assert scores.missing.tolist() == [False, True]


@pytest.mark.parametrize("text", ["0,93", "93%", "about 1", "1_000", "0x1F", "--", "True"])
def test_text_is_no_score(text: str) -> None:
    assert read_scores(pd.Series(["0.5", text])).faults == {1: text}


def test_seeds_are_numbers_or_places_among_words() -> None:
    assert seed_numbers(["7", "0", "-1"]).tolist() == [7, 0, -1]
    assert seed_numbers(["b", "a", "b", "1"]).tolist() == [2, 1, 2, 0]
    assert seed_numbers([str(2**64), "1"]).tolist() == [1, 0]
