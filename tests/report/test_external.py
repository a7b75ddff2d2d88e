"""Reports on results that another program made: the harness's own numbers, and its honesty."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator, validate

from harness.analysis.comparison import Question
from harness.core.errors import InputError
from harness.report.blocks import ReportTable
from harness.report.data_formats import json_text
from harness.report.html import html
from harness.report.markup import latex, markdown
from harness.report.schema import schema
from harness.report.section import Report, build_report, choose_sections, sections
from harness.report.terminal import terminal
from harness.store.read.external.frame import results_of_frame
from harness.store.read.results import Results
from tests.external_support import ROLES, results, runs
from tests.report_support import full_grid, section_record, whole_report


def words(report: Report) -> str:
    return " ".join(terminal([report], width=100).split())


def overview(table: Results, **question: Any) -> tuple[str, ...]:
    cautions: tuple[str, ...] = section_record(table, "overview", **question).cautions
    return cautions


def exported() -> pd.DataFrame:
    """A grid of the harness's own, as somebody would export it."""
    trials = full_grid().trials
    names = ["dataset", "model", "model.hidden", "optimizer", "lr", "scheduler", "seed"]
    frame = trials[names].rename(columns={"model.hidden": "hidden"}).astype(object)
    frame["val_acc"] = trials["best/val/accuracy"].where(trials["outcome"] == "done", "nan")
    frame["test_acc"] = trials["best/test/accuracy"].where(trials["outcome"] == "done", "nan")
    return frame


def test_exported_results_give_the_numbers_that_the_harness_gives() -> None:
    table = results_of_frame(
        exported(),
        by="optimizer",
        task=["dataset", "hidden"],
        seed="seed",
        metric="val_acc:max",
        config=["lr", "scheduler"],
    )
    wanted = choose_sections(["verdict", "seeds", "paired", "across_tasks"])
    own, other = (build_report(of, of=wanted) for of in (full_grid(), table))

    def numbers(report: Report) -> Any:
        pairs, seeds = report.record("paired").pairs, report.record("seeds").contenders
        headline = report.record("verdict").headline
        return {
            "pairs": sorted((p.difference, p.p, p.holm, p.better, p.n) for p in pairs),
            "seeds": sorted(
                (of.name, of.summary.mean, of.summary.sd, of.summary.iqm, of.divergence)
                for of in seeds
            ),
            "ranks": [(of.contender, of.rank) for of in report.record("across_tasks").standings],
            "verdict": (headline.finding, headline.doubt, headline.evidence, headline.tasks),
        }

    assert numbers(other) == numbers(own)


def test_every_section_is_right_or_says_why_it_has_nothing() -> None:
    """Nothing is known of epochs, times, targets, devices, nor of the net before training."""
    report = whole_report(results(config=["lr"]))

    said = words(report)
    for sentence in (
        "lion is ahead of adam on 2 of 2 tasks",
        "Ranked on acc (higher is better), the value that each trial has.",
        "Learning curves Insufficient data: each trial has one value.",
        "Time to target Insufficient data: the experiment has no target.",
        "Learning-rate sensitivity Insufficient data: no trial has acc after its last step.",
        "Cost Insufficient data: no trial has its times.",
        "on the word of the program that made them",
    ):
        assert sentence in said
    for word in ("epoch", "uncommitted", "alone on its device", "torch's own", "same initial"):
        methods = said.index("How each figure is computed")
        assert word not in said[:methods]
    assert "same initial weights" not in said


POOR: dict[str, Any] = {
    "one run": runs(seeds=1, tasks=("digits",)).iloc[:1],
    "one seed": runs(seeds=1),
    "one contender": runs().query("optimizer == 'sgd'"),
    "all diverged": runs(acc="nan"),
    "nothing measured": runs(acc=""),
    "some diverged": runs().assign(acc=lambda of: of["acc"].where(of["seed"] > 3, np.inf)),
    "some missing": runs().assign(acc=lambda of: of["acc"].where(of["seed"] > 3)),
    "ties": runs(acc=0.5),
    "missing seeds": runs().drop(index=[0, 13, 26, 40]),
    "no common seed": runs().assign(seed=range(72)),
    "words as seeds": runs().assign(seed=lambda of: "fold " + of["seed"].astype(str)),
    "words as rates": runs().assign(lr=lambda of: of["lr"].map({0.001: "auto", 0.01: "0.01"})),
    "rates of 0": runs().assign(lr=lambda of: of["lr"] * (of["lr"] != 0.001)),
    "unequal configs": runs().query("optimizer != 'sgd' or lr == 0.01"),
    "a missing task": runs().query("optimizer != 'sgd' or dataset == 'wine'"),
    "huge": runs().assign(acc=lambda of: of["acc"] * 1e307),
    "tiny": runs().assign(acc=lambda of: of["acc"] * 1e-307),
    "hostile names": runs().replace({"sgd": "<script>alert(1)</script>", "adam": "=cmd()\x1b[31m"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", POOR)
@pytest.mark.parametrize("roles", [{}, {"seed": None}, {"task": None, "config": ["lr", "dataset"]}])
def test_poor_results_give_valid_reports(case: str, roles: dict[str, Any]) -> None:
    check_formats(results(POOR[case], **roles))


@pytest.mark.parametrize("case", ["some diverged", "some missing", "hostile names"])
def test_some_poor_results_give_valid_reports(case: str) -> None:
    check_formats(results(POOR[case].query("dataset == 'wine'")))


def check_formats(table: Results) -> None:
    report = whole_report(table)
    output = terminal([report], width=100) + markdown([report]) + latex([report])
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|\x1b", output.replace("NaN", ""))
    validate(json.loads(json_text([report])), schema(), Draft202012Validator)
    assert "<script>alert" not in html([report])


def test_unseeded_runs_claim_nothing_whatever_their_scores() -> None:
    table = results(seed=None)

    report = whole_report(table)

    assert report.record("verdict").headline.finding == "insufficient data"
    assert report.record("paired").pairs == ()
    said = words(report)
    assert "Insufficient data: the trials cannot be paired, as their seeds are not known." in said
    assert "72 trials (72 done) of 12 configs, seeds not known." in said
    assert "6 trials: no claim of significance" in said


def test_seeds_that_no_two_contenders_share_claim_nothing() -> None:
    verdict = section_record(results(POOR["no common seed"]), "verdict")

    assert verdict.headline.finding == "insufficient data"
    assert "fewer than two seeds in common" in verdict.sentence


def test_few_common_seeds_claim_nothing() -> None:
    frame = runs().query("optimizer != 'lion' or seed > 1")

    assert section_record(results(frame), "verdict").sentence.startswith(
        "Insufficient data: 4 seeds in common, and a claim needs at least 5."
    )


def test_less_is_better_where_the_user_says_so() -> None:
    verdict = section_record(results(metric="acc:min"), "verdict")

    assert verdict.headline.improvement.first == "sgd"


def test_what_was_chosen_on_the_compared_metric_is_said() -> None:
    (chosen,) = overview(results())
    assert chosen.startswith("acc chooses each contender's best config, and is compared too")
    assert overview(results(runs().query("lr == 0.01"))) == ()
    with_test = runs().rename(columns={"acc": "val_acc"}).assign(test_acc=lambda of: of["val_acc"])
    assert overview(results(with_test, metric="val_acc:max")) == ()


def test_the_test_split_that_chooses_is_said() -> None:
    table = results(runs().rename(columns={"acc": "test_acc"}), metric="test_acc:max")

    assert "Selected on the test split (test_acc): these figures do not" in words(
        build_report(table)
    )


def test_unequal_numbers_of_configs_are_told() -> None:
    report = build_report(results(POOR["unequal configs"]))

    assert "Each was chosen among 1 to 2 configs" in words(report)


def test_the_validation_metric_chooses_and_the_test_metric_is_compared() -> None:
    frame = runs().rename(columns={"acc": "val_acc"})
    frame["test_acc"] = 1 - frame["val_acc"]

    verdict = section_record(results(frame, metric="val_acc:max"), "verdict")

    assert verdict.metric == "val_acc"
    assert verdict.compared_on == "test_acc"
    assert verdict.headline.improvement.first == "sgd"
    assert "leads on digits and wine by val_acc, which chose the configs" in verdict.reason


@pytest.mark.parametrize(
    ("where", "trials"),
    [
        ({"optimizer": "sgd"}, 24),
        ({"lr": 0.01}, 36),
        ({"run": [0, 1]}, 24),
        ({"seed": 0}, 12),
        ({"problem": "wine", "optimizer": ["sgd", "adam"]}, 24),
        ({"net.width": 8}, 72),
        ({"version": 1}, 72),
    ],
)
def test_conditions_name_columns(where: dict[str, Any], trials: int) -> None:
    frame = runs(version="1").rename(columns={"seed": "run", "dataset": "problem"})
    frame["net.width"] = 8
    table = results(
        frame, seed="run", task="problem", config=["lr", "version", "net.width"], metric="acc:max"
    )

    assert section_record(table, "overview", where=where).trials == trials


def test_other_fields_may_compete() -> None:
    verdict = section_record(results(), "verdict", by=("lr",))

    assert verdict.headline.improvement.first == "lr 0.01"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"where": {"rate": 1}}, "no trial has a field 'rate'"),
        ({"by": ("model",)}, "--by: no field 'model'"),
        ({"metric": "loss"}, "--metric: no trial has 'loss'"),
        ({"baseline": "sdg"}, "--baseline: no contender is called 'sdg'\n    did you mean 'sgd'?"),
    ],
)
def test_questions_without_an_answer_are_refused(question: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        build_report(results(), Question(**question), sections())

    assert said in str(error.value)


def test_contenders_that_are_words_need_no_name_of_their_column() -> None:
    frame = runs().rename(columns={"optimizer": "method"})
    verdict = section_record(results(frame, by="method"), "verdict")

    assert "lion is ahead of adam on 2 of 2 tasks" in verdict.sentence


def test_what_competes_has_a_column_of_its_own() -> None:
    frame = runs().rename(columns={"optimizer": "method"})
    report = build_report(results(frame, by="method", config=["lr"]))

    for section in ("leaderboard", "best_of_each"):
        (part,) = (part for part, _ in report.parts if part.name == section)
        tables = [of for of in part.blocks(report.record(section)) if isinstance(of, ReportTable)]
        assert [column.title for column in tables[0].columns if column.title != "#"][:3] == [
            *("method", "lr", "acc")
        ]


def test_a_model_is_a_task_only_if_it_is_named_as_one() -> None:
    frame = runs().assign(model=lambda of: of["lr"].map({0.001: "cnn", 0.01: "mlp"}))

    one = section_record(results(frame, config="model"), "verdict")
    two = section_record(results(frame, task=["dataset", "model"], config=None), "verdict")

    assert (one.headline.tasks, two.headline.tasks) == (2, 4)


def test_the_source_of_the_results_is_in_the_provenance() -> None:
    provenance = section_record(results_of_frame(runs(), name="theirs", **ROLES), "provenance")

    assert [(fact.name, fact.values) for fact in provenance.facts] == [("experiment", ("theirs",))]
