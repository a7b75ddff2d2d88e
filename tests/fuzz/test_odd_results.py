"""Any content of a store gives a table and a report, or an error that says what is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.analysis.comparison import Question
from harness.core.errors import HarnessError
from harness.core.records import Outcome
from harness.report.section import build_report
from harness.report.terminal import terminal
from harness.store import names
from harness.store.read.results import Results, results_table
from harness.store.read.runs import StoredRun
from tests.stored import METRIC, sweep_run, trial_run

ODD = st.sampled_from(
    [
        *["", " ", "-", "none", "nan", "inf", "-inf", "1e999", "1e-3", "0x1", "true", "[1, 2]"],
        *["<script>alert(1)</script>", "=cmd()", "../../up", "\x1b[2J", "\x00", "\U0001f600"],
        *["[bold]", "%s", "{0}", "{{x}}", "|", "a\nb", "\u202e", "9" * 400, "x" * 6000],
    ]
)
TEXT = ODD | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, math.nan])
TAGS = {
    names.TAG_OUTCOME: st.sampled_from([*Outcome]) | TEXT,
    names.TAG_REASON: TEXT,
    names.TAG_METRIC: st.sampled_from([METRIC, "test/loss"]) | TEXT,
    names.TAG_DIRECTION: st.sampled_from(["max", "min"]) | TEXT,
    names.TAG_TARGET: TEXT,
    names.TAG_DIVERGED_AT: TEXT,
    names.TAG_PROCESS: TEXT | st.just(json.dumps({"host": 1, "boot": [], "pid": "x", "born": {}})),
    names.TAG_EXCLUSIVE: TEXT,
    names.TAG_ARTIFACTS: TEXT,
    names.TAG_TRIAL: TEXT | st.just("{}") | st.just("[]") | st.just('{"model": {"x": 1}}'),
    names.TAG_KIND: st.sampled_from([names.TRIAL, names.SWEEP, names.STUDY]) | TEXT,
    names.TAG_EXPECT: TEXT | st.just('[{"metric": 1}]'),
    "mlflow.parentRunId": TEXT,
}
CHANGED_TAGS = st.fixed_dictionaries({}, optional=TAGS)
PARAMS = st.dictionaries(
    st.sampled_from(["seed", "lr", "optimizer", "model", "epochs", "trial_id", "config_id"]) | TEXT,
    TEXT,
    max_size=4,
)
METRICS = st.dictionaries(
    st.sampled_from([f"best/{METRIC}", f"final/{METRIC}", "epochs_to_target", "time/train_s"])
    | TEXT.map(lambda text: f"best/{text}"),
    NUMBERS,
    max_size=4,
)
LOST = st.lists(
    st.sampled_from(["seed", "lr", "optimizer", "model", "dataset", "trial_id", "config_id"]),
    max_size=7,
)


@st.composite
def odd_runs(draw: Callable[..., Any]) -> list[StoredRun]:
    """A sweep with some trials, of which any part may be changed, added or lost."""
    runs = [sweep_run()] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 5))):
        run = trial_run(draw(st.floats(0, 1)), seed=number, started=number, name=draw(TEXT) or None)
        run.tags.update(draw(CHANGED_TAGS))
        run.params.update(draw(PARAMS))
        run.metrics.update(draw(METRICS))
        for name in draw(LOST):
            run.params.pop(name, None)
        runs.append(run)
    return runs


def read_table(runs: list[StoredRun]) -> Results | None:
    with suppress(HarnessError):
        return results_table("demo", runs)
    return None


def read_whole(runs: list[StoredRun]) -> None:
    """Table and report."""
    results = read_table(runs)
    with suppress(HarnessError):
        if results is not None:
            terminal([build_report(results, Question())])


UNHURRIED = settings(deadline=None, suppress_health_check=[*HealthCheck])


@settings(UNHURRIED, max_examples=40)
@given(odd_runs())
def test_odd_runs_make_a_table(runs: list[StoredRun]) -> None:
    read_table(runs)


@pytest.mark.slow
@settings(UNHURRIED, max_examples=100)
@given(odd_runs())
def test_odd_runs_make_a_report(runs: list[StoredRun]) -> None:
    read_whole(runs)
