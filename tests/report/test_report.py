"""A report in each format, on good results and on poor ones."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from rich.cells import cell_len

from harness.analysis.comparison import Question
from harness.report.data_formats import SCHEMA, json_text
from harness.report.data_formats import csv as csv_of
from harness.report.markup import markdown
from harness.report.section import Report, build_report, sections
from harness.report.terminal import terminal
from harness.store.names import TAG_REASON
from harness.store.read.runs import StoredRun
from tests.report_support import FORMULA, POOR, SCRIPT
from tests.stored import results, seeds, small_grid, trial_run, without


def report(*runs: StoredRun, expect: Any = (), **question: Any) -> Report:
    return build_report(results(*runs, expect=expect), Question(**question))


def rows(built: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_of([built]))))


def parsed(built: Report) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    whole = json.loads(json_text([built]), parse_constant=refuse)
    assert whole["schema"] == SCHEMA
    (experiment,) = whole["experiments"]
    return dict(experiment)


def sentence_of(built: Report) -> str:
    """The verdict's sentence."""
    (standing,) = built.record("verdict").standings
    return str(standing.sentence)


@pytest.mark.parametrize("case", POOR)
def test_poor_results_give_a_valid_report_in_every_format(case: str) -> None:
    built = report(*POOR[case])

    assert terminal([built]).startswith("demo\n")
    assert markdown([built]).startswith("# demo\n")
    assert len(rows(built)) == len(parsed(built)["leaderboard"]["rows"]) >= 1
    for value in (terminal([built]), markdown([built]), csv_of([built]), json_text([built])):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", value)


@pytest.mark.parametrize("case", ["nothing done", "all diverged", "one seed", "no metric"])
def test_too_little_is_called_insufficient(case: str) -> None:
    assert "nsufficient data" in sentence_of(report(*POOR[case]))


def test_a_mean_of_fewer_trials_says_of_how_many() -> None:
    """One trial of three has no test accuracy, as of a file that lost a metric."""
    runs = [trial_run(0.9, test=0.8, seed=0), trial_run(0.8, test=0.7, seed=1)]
    built = report(*runs, trial_run(0.7, seed=2), *seeds([0.6, 0.5, 0.4], lr=7.0))

    best, other = built.record("leaderboard").rows
    assert (best.n, best.test_n, best.test_mean) == (3, 2, 0.75)
    assert (other.n, other.test_n) == (3, 3)
    assert "0.7500 ± 0.0707 (n = 2)" in terminal([built], 200)
    assert [(row["n"], row["test_n"]) for row in rows(built)] == [("3", "2"), ("3", "3")]


def test_the_verdict_names_leader_and_runner_up_and_claims_nothing() -> None:
    """adam's best: 0.979, 0.98, 0.982 at lr 0.01, so mean 0.98033…, sd 0.00153."""
    assert sentence_of(report(*small_grid())) == (
        "adam leads with val/accuracy 0.9803 ± 0.0015 (n = 3) at lr 0.01, mlp(hidden=[16]); "
        "next sgd, 0.9703 ± 0.0015. 3 seeds: no claim of significance."
    )


def test_a_tie_is_no_lead() -> None:
    sentence = sentence_of(report(*POOR["ties"]))

    assert "lr 0.1 and lr 0.2 tie at val/accuracy 0.8500" in sentence
    assert "leads" not in sentence


def test_one_seed_proves_nothing() -> None:
    assert sentence_of(report(*POOR["one seed"])).endswith(
        "Insufficient data: 1 seed proves nothing."
    )


def test_seeds_that_change_nothing_are_pointed_out() -> None:
    assert "2 seeds, which all gave the same value" in sentence_of(report(*POOR["no variance"]))


def test_fewer_seeds_are_marked() -> None:
    built = report(*POOR["missing seeds"])

    assert [row.fewer for row in built.record("leaderboard").rows] == [True, False]
    assert "1*" in terminal([built])
    assert "fewer seeds" in terminal([built])


def test_selection_on_the_test_split_is_reported() -> None:
    from harness.store.names import TAG_METRIC
    from harness.store.read.results import results_table
    from tests.stored import sweep_run

    runs = [trial_run(None, test=0.9, tags={TAG_METRIC: "test/accuracy"})]
    found = results_table("demo", [sweep_run(metric="test/accuracy"), *runs])
    assert found is not None

    assert "Selected on the test split" in terminal([build_report(found)])
    assert "Selected on the test split" not in terminal([report(*small_grid())])


def test_divergence_is_a_rate_and_failures_are_counted() -> None:
    runs = [*seeds([0.9, 0.9]), *seeds([0.9, None, None], lr=7.0)]
    runs.append(trial_run(outcome="failed", status="FAILED", tags={TAG_REASON: "boom"}, lr=8.0))

    text = terminal([report(*runs)])

    assert "67%" in text
    assert "1 failed" in text
    assert "boom" in text
    assert "3 done, 2 diverged, 1 failed" in text


def test_published_figures_are_compared() -> None:
    figures = [
        {"metric": "test/accuracy", "value": 0.95, "tolerance": 0.01, "source": "A paper"},
        {"metric": "test/accuracy", "value": 0.5, "tolerance": 0.01, "source": ""},
        {"metric": "test/f1", "value": 0.5, "tolerance": 0.01, "source": ""},
    ]

    text = markdown([report(*small_grid(), expect=figures)])

    assert "| reproduced |" in text
    assert "off by +0.4503 (0.4403 too far)" in text
    assert "insufficient data: no trial has it" in text
    assert "Source: A paper" in text


@pytest.mark.parametrize("width", [80, 100, 132])
def test_a_grid_fits_its_terminal(width: int) -> None:
    runs = [*small_grid(), trial_run(outcome="failed", status="FAILED", scheduler="cosine")]

    lines = terminal([report(*runs)], width).splitlines()

    assert max(map(cell_len, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_no_column_vanishes_however_narrow() -> None:
    runs = [trial_run(0.9, batch_size=b, epochs=e, lr=0.1 * b) for b in (8, 16) for e in (1, 2)]

    text = terminal([report(*runs, *seeds([None, 0.1], optimizer="adam"))], 40)

    for word in ("optimizer", "batch_si", "diverged", "0.9000"):
        assert word in text


def test_colour_only_by_request() -> None:
    assert "\x1b[" in terminal([report(*small_grid())], color=True)


def test_top_keeps_the_best_and_says_how_many_are_left() -> None:
    built = report(*small_grid(), top=3)

    assert [row.rank for row in built.record("leaderboard").rows] == [1, 2, 3]
    assert "9 configs more" in terminal([built])


def test_hostile_names_do_no_harm() -> None:
    built = report(*POOR["hostile names"])
    text = markdown([built])

    assert SCRIPT not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert not re.search(r"^#+ `x`", text, re.MULTILINE)
    (line,) = (line for line in text.splitlines() if FORMULA in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 4  # three cells, whatever is in them
    assert "\x1b" not in terminal([built])
    assert "[bold]" in terminal([built])
    failures = {trial["run_name"]: trial for trial in parsed(built)["failures"]["trials"]}
    assert "\x1b[31m" in failures[FORMULA]["reason"]  # JSON holds what the store holds


def test_csv_is_tidy_and_exact() -> None:
    found = rows(report(*small_grid(), *seeds([None], lr=9.0)))

    assert len(found) == 13
    first, last = found[0], found[-1]
    assert (first["rank"], first["optimizer"], first["lr"]) == ("1", "adam", "0.01")
    assert first["dataset"] == "digits"
    assert float(first["mean"]) == pytest.approx((0.979 + 0.98 + 0.982) / 3, abs=1e-12)
    assert (last["mean"], last["sd"], last["diverged"]) == ("", "", "1")


def test_a_field_that_an_older_run_lacks_is_an_empty_cell() -> None:
    found = rows(report(trial_run(0.9), without(trial_run(0.8, lr=0.5), "precision")))

    assert [row["precision"] for row in found] == ["fp32", ""]


def test_json_holds_every_section_as_plain_values() -> None:
    built = report(*small_grid(), expect=[{"metric": "test/r2", "value": 1, "tolerance": 0.1}])

    json_report = parsed(built)

    assert set(json_report) == {"experiment", *(section.name for section, _ in built.parts)}
    assert json_report["expectations"]["figures"][0]["mean"] is None
    assert json_report["verdict"]["standings"][0]["leaders"][0]["name"] == "adam"


def test_sections_are_found_with_distinct_names_and_orders() -> None:
    names = [section.name for section in sections()]

    assert {"verdict", "overview", "leaderboard", "best_of_each", "expectations"} <= set(names)
    assert len(set(names)) == len(names)
    assert len({section.order for section in sections()}) == len(names)


def test_configs_with_the_same_label_show_their_ids() -> None:
    """The data set's files changed between two sweeps: the same fields, another config."""
    other = trial_run(0.8, seed=1)
    other.params["config_id"] = "f" * 16

    built = report(trial_run(0.9), other)

    ids = [row.fields["config"] for row in built.record("leaderboard").rows]
    assert ids[1] == "ffffff"
    assert ids[0] != ids[1]
