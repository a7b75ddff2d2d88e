"""The part of a plan that is stored with a sweep's run, and what is refused in its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.experiment.experiment import Expectation
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.plan_summary import LONGEST, PlanSummary

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: sgd, epochs: 1}
grid: {lr: [0.1, 0.01], seed: [0, 1, 2]}
expect:
  - {metric: test/accuracy, value: 0.9, tolerance: 0.1, source: nobody, where: {lr: [0.1, 0.01]}}
"""
VALID = {
    "format": 1,
    "file": "x.yaml",
    "sha256": "ab",
    "overrides": ["lr=1"],
    "metric": "val/loss",
    "direction": "min",
    "target": None,
    "is_search": False,
    "expect": [],
    "trials": {"": {"00": ["0f", "1f"]}},
}
WRONG: tuple[dict[str, Any], ...] = (
    {"format": 2},
    {"code": "os.system"},
    {"trials": {"": {"../../up": ["00"]}}},
    {"trials": {"": {"00": ["../../up"]}}},
    {"trials": {"": {"00": "0f"}}},
    {"trials": [["00"]]},
    {"direction": "up"},
    {"target": "0.9"},
    {"is_search": 1},
    {"overrides": [{}]},
    {"file": "x" * 10_000},
    {"expect": [{"metric": "test/accuracy"}]},
    {"expect": [{"value": "much", "metric": "m", "tolerance": 0, "source": ""}]},
)


def test_a_summary_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    plan = make_plan(load(path, ["epochs=2", "target=0.9"]))
    summary = PlanSummary.parse(PlanSummary.of(plan).to_json())
    assert set(summary.data) == {planned.trial_id for planned in plan.trials}
    assert set(summary.data.values()) == {plan.trials[0].fingerprint.data}
    assert summary.seeds == {planned.config_id: 3 for planned in plan.trials}
    assert summary.goal == plan.experiment.goal
    assert [figure.source for figure in summary.expect] == ["nobody"]
    assert (summary.file, summary.overrides) == ("small.yaml", ("epochs=2", "target=0.9"))
    assert summary.sha256 == load(path).sha256 != ""
    assert not summary.is_search


def test_ten_thousand_trials_take_a_quarter_of_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    plan = make_plan(load(path))
    first = plan.trials[0]
    many = [
        replace(first, trial_id=f"{n:016x}", config_id=f"{n // 10:016x}") for n in range(10_000)
    ]
    text = PlanSummary.of(replace(plan, trials=tuple(many))).to_json()
    assert len(text) < 250_000
    assert len(PlanSummary.parse(text).data) == 10_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"format":' * 100_000,
        json.dumps(VALID)[:-3],
        json.dumps(VALID) + " " * LONGEST,
        "\x00\ud800".encode("utf-8", "replace").decode(),
        *(json.dumps(VALID | change) for change in WRONG),
    ],
)
def test_what_is_no_plan_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError) as refused:
        PlanSummary.parse(text)
    assert 0 < len(str(refused.value)) < 400
    assert not re.search(r"pydantic|x{50}", str(refused.value))


def test_the_valid_one_is_read() -> None:
    """Else the cases above would prove nothing."""
    summary = PlanSummary.parse(json.dumps(VALID))
    assert summary.data == {"0f": "", "1f": ""}
    assert summary.seeds == {"00": 2}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.sampled_from(sorted(VALID)), JSON)
def test_any_value_in_any_place_is_read_or_refused(name: str, value: object) -> None:
    try:
        summary = PlanSummary.parse(json.dumps(VALID | {name: value}))
    except InputError:
        return
    assert all(isinstance(figure, Expectation) for figure in summary.expect)
    assert all(re.fullmatch("[0-9a-f]+", trial) for trial in summary.data)
