"""What was trained by different code of a user's is never averaged, and says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.analysis.comparison import Question, compare
from harness.report.sections.overview import blocks, record
from harness.store.names import TAG_CODE
from harness.store.read.code_versions import read_codes
from harness.store.read.runs import StoredRun
from tests.stored import results, trial_run

OLD, NEW = "a1" * 8, "b2" * 8


def net_run(score: float, code: str, name: str = "net", **fields: Any) -> StoredRun:
    """A trial of a model of one's own. Its options, and here its ids, do not say its code."""
    run = trial_run(score, tags={TAG_CODE: json.dumps({"model": {name: code}})}, **fields)
    run.params["model"] = name
    return run


def both_codes() -> list[StoredRun]:
    return [
        net_run(score + seed / 100, code, seed=seed + 10 * begun, started=begun)
        for begun, (code, score) in enumerate(((OLD, 0.9), (NEW, 0.6)))
        for seed in range(3)
    ]


def test_two_versions_of_code_are_two_configs() -> None:
    found = compare(results(*both_codes()), Question())
    assert {config.labels["model"] for config in found.configs} == {
        "net @ a1a1a1a1",
        "net @ b2b2b2b2",
    }
    assert [config.n for config in found.configs] == [3, 3]
    assert sorted(round(config.mean or 0, 2) for config in found.configs) == [0.61, 0.91]
    assert len(found.contenders) == 2
    assert [(v.of, v.name, v.trials, v.current) for v in found.versions] == [
        ("code", "net", 3, False),
        ("code", "net", 3, True),
    ]


def test_the_report_names_them() -> None:
    texts = [block.text for block in blocks(record(compare(results(*both_codes()), Question())))]
    assert (
        "The code of net changed: a1a1a1a1 (3 trials), b2b2b2b2 (3 trials, current). Runs of "
        "different versions are never averaged." in texts
    )


def test_code_that_came_back_is_the_current_one_of_a_file() -> None:
    """Its trials are not trained again, so that other runs are newer."""
    runs = both_codes()
    old = {run.params["trial_id"]: "" for run in runs if OLD in run.tags[TAG_CODE]}
    found = compare(results(*runs), Question(planned=set(old), data=old))
    assert [v.current for v in found.versions] == [True, False]
    assert [config.labels["model"] for config in found.configs] == ["net"], (
        "alone, it needs no name"
    )


def test_versions_are_of_a_component_whatever_its_options() -> None:
    runs = [
        net_run(0.9, OLD, seed=0, started=0, model={"name": "mlp", "hidden": [8]}),
        net_run(0.8, NEW, seed=0, started=1, model={"name": "mlp", "hidden": [16]}),
    ]
    found = compare(results(*runs), Question())
    assert {config.labels["model"] for config in found.configs} == {
        "net @ a1a1a1a1",
        "net @ b2b2b2b2",
    }
    assert [version.name for version in found.versions] == ["net", "net"]


def test_a_moved_file_is_the_same_code() -> None:
    runs = [
        net_run(0.9, NEW, "net.py:Net", seed=0),
        net_run(0.8, NEW, "nets/net.py:Net", seed=1, started=1),
    ]
    found = compare(results(*runs), Question())
    assert [config.n for config in found.configs] == [2]
    assert found.versions == ()


def test_one_version_needs_no_name() -> None:
    found = compare(results(*[net_run(0.9, NEW, seed=seed) for seed in (0, 1)]), Question())
    assert found.configs[0].labels["model"] == "net"
    assert found.versions == ()


@pytest.mark.parametrize(
    "tag", ["", "no JSON", "[]", "3", '{"model": 3}', '{"nonsense": {"net": "x"}}', "[" * 99_999]
)
def test_a_tag_that_anybody_wrote_breaks_no_report(tag: str) -> None:
    runs = [trial_run(0.9, seed=0, tags={TAG_CODE: tag}), trial_run(0.8, seed=1)]
    assert compare(results(*runs), Question()).configs[0].n == 2
    assert isinstance(read_codes(tag), dict)
