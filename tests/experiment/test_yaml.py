"""Reading YAML: the values that people mean, their lines, and hostile files."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.experiment.reading import yaml


def value(text: str) -> Any:
    return yaml.parse(f"key: {text}\n", "x.yaml").values["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-2E+2", -200.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("0.10", 0.1),
        ("12", 12),
        ("-0", 0),
        ("-0.0", 0.0),
        ("-0e5", 0.0),
        ("+7", 7),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_of_yaml_1_2(text: str, expected: object) -> None:
    found = value(text)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "off",
        "yes",
        "No",
        "y",
        "010",
        "0o17",
        "0x1f",
        "1_000",
        "1:30",
        "2020-01-01",
        "1e",
        "=",
    ],
)
def test_text_that_yaml_1_1_would_convert_stays_text(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize("text", ["'1e-3'", '"true"', "|\n  null"])
def test_quoted_and_block_scalars_are_text(text: str) -> None:
    assert isinstance(value(text), str)


def test_lines_of_keys_and_items() -> None:
    text = "a: 1\n\nb:\n  - x\n  - {c: 2,\n     d: 3}\n"
    assert yaml.parse(text, "x").lines == {
        ("a",): 1,
        ("b",): 3,
        ("b", 0): 4,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("b", 1, "d"): 6,
    }


def test_an_alias_is_a_copy_and_its_values_have_the_anchors_lines() -> None:
    parsed = yaml.parse("a: &x\n  k: [1]\nb: *x\n", "x")
    assert parsed.values == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert parsed.values["a"]["k"] is not parsed.values["b"]["k"]
    assert parsed.lines["b", "k"] == 2
    assert yaml.parse("a: &x 1\nb:\n  - *x\n", "x").lines["b", 0] == 3


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 25)
)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is given twice, first on line 1"),
        ("a: {b: 1, b: 2}\n", 1, "given twice"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tags are not allowed"),
        ("a: !!str 1\n", 1, "tags are not allowed"),
        ("a: 1\nb: .nan\n", 2, "must be finite"),
        ("a: -.inf\n", 1, "must be finite"),
        ("a: 1e999\n", 1, "must be finite"),
        ("a: " + "9" * 5000, 1, "too long"),
        ("a: &x [*x]\n", 1, "contains itself"),
        ("a: 1\nb: *y\n", 2, "y"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n", 3, "merge keys"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key must be text"),
        ("a: 1\n---\nb: 2\n", 2, "second YAML document"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\nb: \x07\n", 2, "unprintable"),
        ("[" * 200_000, 1, "nested more than"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, 1, "nested more than"),
        (BOMB, 9, "more than 200000 values"),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, what: str) -> None:
    with pytest.raises(InputError) as raised:
        yaml.parse(text, "x.yaml")
    (problem,) = raised.value.problems
    assert problem.where == f"x.yaml:{line}"
    assert what in problem.what


def test_depth_counts_what_an_alias_stands_for() -> None:
    deep = "a: &x " + "[" * 20 + "]" * 20 + "\n"
    assert yaml.parse(deep + "b: *x\n", "x").values["b"]
    with pytest.raises(InputError, match="nested"):
        yaml.parse(deep + "b: " + "[" * 20 + "*x" + "]" * 20, "x")


def test_a_file_that_is_too_large_binary_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with pytest.raises(InputError, match=r"x\.yaml: cannot be read: No such file"):
        yaml.read(path)
    path.write_bytes(b"#" * (yaml.MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        yaml.read(path)
    path.write_bytes(b"a: 1\nb: \xff\xfe\n")
    with pytest.raises(InputError, match=r"x\.yaml:2: is not UTF-8"):
        yaml.read(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert yaml.read(path).values == {"a": 1}


PIECES = st.sampled_from(
    [
        *["a", "b", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&x ", "*x", "!t ", "1e-3"],
        *["'", '"', "#", "|", ">", "?", "---", "%", "\t", "~", "é", "\ud800", "\x00", "<<", ".nan"],
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_raises_anything_but_an_input_error(text: str) -> None:
    with suppress(InputError):
        yaml.parse(text, "x.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.sampled_from(["x", "on", "1:2"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_json_is_read_as_json(values: object) -> None:
    assert yaml.parse(json.dumps({"k": values}), "x").values == {"k": values}
