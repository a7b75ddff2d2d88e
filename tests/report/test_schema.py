"""The schema of compare's JSON: up to date, and valid for every report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pydantic
import pytest
from jsonschema import Draft202012Validator

from harness.report.data_formats import SCHEMA, json_text
from harness.report.schema import DEFAULT_PATH, schema, text
from harness.report.section import sections
from harness.store.read.results import Results
from tests.report_support import POOR, full_grid, whole_report, with_run_details
from tests.stored import results


@pytest.fixture(scope="module")
def valid() -> Draft202012Validator:
    document = schema()
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


@pytest.fixture(scope="module")
def report() -> Any:
    return json_report(full_grid())


def json_report(found: Results) -> Any:
    return json.loads(json_text([whole_report(found)]))


def test_the_stored_schema_is_fresh(request: pytest.FixtureRequest) -> None:
    lock = (request.config.rootpath / "requirements.lock").read_text(encoding="utf-8")
    if f"pydantic=={pydantic.VERSION}" not in lock.splitlines():
        pytest.skip(f"pydantic {pydantic.VERSION} is not that of requirements.lock")
    stored = (request.config.rootpath / DEFAULT_PATH).read_text(encoding="utf-8")
    assert stored == text(), "run `python -m harness.report.schema --write`"


def test_every_section_stands_in_it(valid: Draft202012Validator) -> None:
    assert isinstance(valid.schema, Mapping)
    known = valid.schema["properties"]["experiments"]["items"]["properties"]
    assert set(known) == {"experiment", *(section.name for section in sections())}


def test_a_whole_report_is_valid(valid: Draft202012Validator, report: Any) -> None:
    valid.validate(report)


@pytest.mark.parametrize("case", POOR)
def test_poor_results_are_valid(valid: Draft202012Validator, case: str) -> None:
    valid.validate(json_report(with_run_details(results(*POOR[case]))))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.update(schema="harness.compare/2"),
        lambda d: d["experiments"][0]["overview"].pop("trials"),
        lambda d: d["experiments"][0]["overview"].update(trials="many"),
        lambda d: d["experiments"][0]["verdict"]["headline"].update(finding="perhaps"),
        lambda d: d["experiments"][0].pop("experiment"),
    ],
)
def test_invalid_reports_do_not_validate(
    valid: Draft202012Validator, report: Any, break_it: Any
) -> None:
    document = deepcopy(report)
    assert document["schema"] == SCHEMA
    break_it(document)
    assert list(valid.iter_errors(document))
