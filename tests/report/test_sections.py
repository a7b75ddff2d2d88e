"""Every section on good results and on poor ones, and its record."""

from __future__ import annotations

import json
import re
import sys
import types
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from harness.analysis.comparison import Question, compare
from harness.components.optimizers.torch_optim import OTHERS, REGISTERED, UNSUPPORTED
from harness.core.errors import InputError
from harness.report.blocks import ReportTable
from harness.report.data_formats import csv, json_text
from harness.report.html import html
from harness.report.markup import latex, markdown
from harness.report.section import Report, Section, build_report, choose_sections, sections
from harness.report.sections.budget import DEFAULT_LR
from harness.report.terminal import terminal
from harness.store.names import TAG_POINT_NUMBER, TAG_ROLE, TAG_STUDY, TUNED
from tests.report_support import (
    FORMULA,
    POOR,
    SCRIPT,
    StubRunDetails,
    full_grid,
    section_record,
    tournament_runs,
    whole_report,
    with_run_details,
)
from tests.stored import results, seeds, small_grid, trial_run


@pytest.fixture(scope="module")
def report() -> Report:
    return whole_report(full_grid())


SILENT = {"expectations", "gains"}
"""Sections that have nothing to say on the full grid."""
DRAWN = {
    "curves", "seeds", "paired", "across_tasks", "time_to_target", "sensitivity", "budget",
    "grid", "cost", "importance",
}  # fmt: skip


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.name)
def test_a_section_shows_a_full_grid(report: Report, section: Section) -> None:
    records = {part.name: record for part, record in report.parts}
    assert (section.name in records) != (section.name in SILENT)
    if section.name in SILENT:
        return
    record = records[section.name]
    assert section.blocks(record)
    figures = section.figures(record)
    assert figures or section.name not in DRAWN
    for figure in figures:
        assert figure.table().rows, figure.title


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.name)
def test_a_section_declares_its_place(section: Section) -> None:
    orders = [other.order for other in sections()]
    assert orders.count(section.order) == 1, "two sections have one order"
    page = (Path(__file__).resolve().parents[2] / "docs" / "compare.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `--section"))
    assert f"`{section.name}`" in row, "docs/compare.md does not name the section"


def test_the_example_of_the_docs_is_a_section(report: Report) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "adding-a-section.md"
    match = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert match is not None
    module = types.ModuleType("slowest")
    sys.modules["slowest"] = module  # dataclasses look their module up
    try:
        exec(match[1], module.__dict__)
        section: Section = module.SECTION
        assert section.name not in {other.name for other in sections()}
        assert section.order not in {other.order for other in sections()}
        record = section.record(compare(full_grid(), Question()))
        assert record is not None
        assert len(record.configs) == module.MOST
        (table,) = section.blocks(record)
        assert isinstance(table, ReportTable)
        assert len(table.rows) == module.MOST
    finally:
        del sys.modules["slowest"]


def test_the_headline_says_who_how_often_and_how_surely(report: Report) -> None:
    sentence = report.record("verdict").sentence
    assert re.fullmatch(
        r"adam beats momentum on 6 of 6 tasks, P\(better\) (1\.00|\.\d\d) "
        r"(\[\.\d\d, (1\.00|\.\d\d)\]|\(no interval: all resamples agree\)), "
        r"n = 5 \(test/accuracy\)\.",
        sentence,
    ), sentence


def test_few_seeds_are_insufficient_data() -> None:
    sentence = section_record(results(*tournament_runs(seeds=3)), "verdict").sentence
    assert sentence.startswith("Insufficient data: 3 seeds in common, and a claim needs at least 5")
    assert "beats" not in sentence


def test_contenders_that_do_not_differ_have_no_winner() -> None:
    same = [0.9, 0.91, 0.92, 0.93, 0.94]
    other = [0.94, 0.9, 0.93, 0.91, 0.92]
    built = whole_report(results(*seeds(same, optimizer="adam"), *seeds(other, optimizer="sgd")))
    sentence = built.record("verdict").sentence
    assert sentence == (
        "Insufficient data: Wilcoxon's p = .938 over 5 seeds; so few that differ allow no p "
        "below .062. adam and sgd are level on 1 task, P(better) .50 [.16, .88], n = 5 "
        "(test/accuracy)."
    )


def test_a_claim_does_not_go_beyond_what_the_tasks_say() -> None:
    """Every seed of four tasks is won and of two lost: no claim, with the numbers."""
    tasks = product(("digits", "wine", "breast_cancer"), ("mlp", "perceptron"))
    runs = [
        run
        for place, (dataset, model) in enumerate(tasks)
        for optimizer, first in (("adam", place < 4), ("sgd", place >= 4))
        for run in seeds(
            [(0.9 if first else 0.7) + seed / 100 for seed in range(5)],
            dataset=dataset,
            model=model,
            optimizer=optimizer,
        )
    ]
    sentence = section_record(results(*runs), "verdict").sentence
    assert re.fullmatch(
        r"Insufficient data: Wilcoxon's p = \.688 over 6 tasks\. adam is ahead of sgd on 4 of 6 "
        r"tasks, P\(better\) \.67 \[\.\d\d, 1\.00\], n = 5 \(test/accuracy\)\.",
        sentence,
    ), sentence


def test_a_claim_names_the_contenders_in_between() -> None:
    """adam and momentum differ by chance on eight seeds; sgd is far behind."""
    scores = [0.9 + seed / 100 for seed in range(8)]
    runs = [
        *seeds([score + 0.001 for score in scores], optimizer="adam"),
        *seeds([*scores[4:], *scores[:4]], optimizer="momentum"),
        *seeds([score - 0.3 for score in scores], optimizer="sgd"),
    ]
    sentence = section_record(results(*runs), "verdict").sentence
    assert sentence.startswith("adam beats sgd on 1 of 1 task")
    assert sentence.endswith("adam is not shown to beat momentum.")


def test_a_baseline_is_in_every_pair_and_in_the_headline() -> None:
    assert "beats sgd on" in section_record(full_grid(), "verdict", baseline="sgd").sentence
    pairs = section_record(full_grid(), "paired", baseline="sgd").pairs
    assert all("sgd" in (pair.first, pair.second) for pair in pairs)
    assert len(pairs) == 2 * 6


def test_an_unknown_baseline_raises_with_the_closest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'adam'"):
        section_record(full_grid(), "verdict", baseline="adan")
    with pytest.raises(InputError, match="--baseline"):
        section_record(results(*seeds([0.9, 0.8])), "verdict", baseline="adam")


def test_the_lowest_p_that_n_allows_is_printed(report: Report) -> None:
    assert "With n = 5 no unadjusted p can be below .062" in terminal([report])


def test_pairs_are_of_the_test_split_at_the_config_chosen_on_val() -> None:
    """adam's best on val is lr 0.1 (test .7), though lr 0.01 has the better test score."""
    runs = [
        *[trial_run(0.9, test=0.7, seed=s, optimizer="adam", lr=0.1) for s in range(3)],
        *[trial_run(0.8, test=0.99, seed=s, optimizer="adam", lr=0.01) for s in range(3)],
        *[trial_run(0.85, test=0.75, seed=s, optimizer="sgd", lr=0.1) for s in range(3)],
    ]
    (pair,) = whole_report(results(*runs)).record("paired").pairs
    assert (pair.first, pair.second, pair.n) == ("adam", "sgd", 3)
    assert pair.difference == pytest.approx(-0.05)
    assert pair.better == 0.0
    assert pair.interval.method == "degenerate"


def test_a_lower_metric_that_is_better_keeps_its_sign() -> None:
    runs = [
        trial_run(0.9, seed=s, optimizer=name, metrics={"final/val/loss": loss + s / 100})
        for name, loss in (("adam", 0.1), ("sgd", 0.3))
        for s in range(5)
    ]
    built = whole_report(results(*runs), Question(metric="val/loss"))
    (pair,) = built.record("paired").pairs
    assert (pair.first, pair.better, pair.wins) == ("adam", 1.0, 5)
    assert pair.difference == pytest.approx(-0.2)
    found = built.record("seeds").contenders[0].summary
    assert found.mean == pytest.approx(0.12)
    assert found.interval.low < 0.12 < found.interval.high


def test_time_to_target_is_in_seconds_only_on_exclusive_devices() -> None:
    alone = section_record(full_grid(), "time_to_target")
    shared = section_record(
        with_run_details(results(*tournament_runs(exclusive=False))), "time_to_target"
    )
    assert alone.unit == "seconds"
    assert shared.unit == "epochs"
    # sgd takes 4 epochs, momentum 3, adam 2 on every task.
    scores = {score.contender: score.score for score in shared.scores}
    assert scores == {
        "adam": 1.0,
        "momentum": pytest.approx(2.5 / 3),
        "sgd": pytest.approx(2 / 3),
    }


def test_without_a_target_or_a_hit_there_is_insufficient_data() -> None:
    built = whole_report(results(*small_grid()))
    assert built.record("time_to_target").insufficient == "the experiment has no target"


def test_untrained_nets_are_read_once_a_task_and_seed() -> None:
    details = StubRunDetails()
    section_record(with_run_details(results(*tournament_runs()), details), "sensitivity")
    # Of 720 runs one a data set, net and seed.
    assert [len(run_ids) for run_ids in details.requests] == [3 * 2 * 5]


def test_only_curves_that_are_drawn_are_read() -> None:
    details = StubRunDetails()
    found = section_record(with_run_details(results(*tournament_runs()), details), "curves")
    assert [len(run_ids) for run_ids in details.requests] == [3 * 2 * 3 * 5]
    first = found.curves[0].epochs[1]
    assert (first.epoch, first.n, first.mean) == (1, 5, pytest.approx(0.3))


def test_regimes_of_learning_rates(report: Report) -> None:
    groups = {(g.task, g.contender): g for g in report.record("sensitivity").groups}
    sgd = groups["digits, mlp(hidden=[16])", "sgd"]
    assert sgd.rates[-1].regime == "diverged"
    assert sgd.best == 0.01
    assert sgd.untrained == pytest.approx(0.1)


def test_the_front_and_the_means_of_cost(report: Report) -> None:
    costs = report.record("cost")
    assert costs.unit == "training seconds"
    by_name = {(g.task, g.contender): g.cost for g in costs.groups}
    assert by_name["digits, mlp(hidden=[16])", "adam"].train_s == pytest.approx(3.0)
    assert by_name["digits, mlp(hidden=[16])", "sgd"].trials == 30  # those that are done
    assert all(not one.priced.front or one.priced.score for one in costs.configs)


def test_shared_devices_forbid_comparing_seconds() -> None:
    found = with_run_details(results(*tournament_runs(exclusive=False)))
    built = build_report(found, of=choose_sections(["cost"]))
    assert built.record("cost").unit == "best epoch"
    assert "cannot be compared" in " ".join(terminal([built]).split())


def test_a_search_ranks_its_winners_and_describes_its_points() -> None:
    tried = [
        trial_run(
            0.9 - abs(n - 12) / 100,
            lr=10 ** (n / 6 - 4),
            tags={TAG_POINT_NUMBER: str(n)},
            optimizer=case,
        )
        for n in range(24)
        for case in ("sgd", "adam")
    ]
    again = [
        *seeds([0.88, 0.87], lr=0.05, optimizer="sgd"),
        *seeds([0.89, 0.88], lr=0.05, optimizer="adam"),
    ]
    report = whole_report(results(*tried, *again))
    overview = report.record("overview")
    assert (overview.trials, overview.tried, overview.unplanned) == (4, 48, 0)
    for name in ("budget", "importance", "sensitivity"):
        assert report.record(name).tried == 48
    assert [curve.configs for curve in report.record("budget").curves] == [24, 24]
    assert not report.record("best_of_each").rates_differ
    assert "about the 48 points that the search tried" in terminal([report])


@pytest.mark.parametrize(
    ("study", "fields", "settings"),
    [
        ("sgd", {}, "lr 0.1"),
        ("sgd batch_size=32", {"batch_size": 32}, "lr 0.1"),
        ("batch_size=32", {"batch_size": 32}, "lr 0.1, sgd"),
        ("lr=0.1 sgd", {}, ""),
        ("all", {}, "lr 0.1, sgd"),
    ],
)
def test_a_studys_settings_do_not_repeat_its_name(
    study: str, fields: dict[str, Any], settings: str
) -> None:
    tags = {TAG_STUDY: study, TAG_ROLE: TUNED}
    other = {TAG_STUDY: "other", TAG_ROLE: TUNED}
    mine = seeds([0.9, 0.8], lr=0.1, optimizer="sgd", tags=tags, **fields)
    report = whole_report(
        results(*mine, *seeds([0.7, 0.6], lr=7.0, optimizer="adam", batch_size=64, tags=other))
    )

    (leader,) = report.record("verdict").standings[0].leaders
    first = report.record("seeds").contenders[0]
    for of in (leader, first):
        assert (of.name, of.settings) == (study, settings)


@pytest.mark.parametrize(
    "choices",
    [
        ["sgd", "adam"],
        [{"name": "sgd", "weight_decay": 0.1}, {"name": "sgd", "weight_decay": 0.2}],
        [{"name": "adam", "eps": 1e-8}, {"name": "adam", "eps": 1e-3}, "sgd"],
    ],
)
@pytest.mark.parametrize("batch_sizes", [(16,), (16, 32)])
def test_the_default_of_a_budget_has_torchs_rate_whatever_else_varies(
    choices: list[Any], batch_sizes: tuple[int, ...]
) -> None:
    """A rate ten times torch's is better by .1, a larger batch worse by .2, and a schedule best."""
    runs = []
    for choice, batch_size in product(choices, batch_sizes):
        torchs = DEFAULT_LR[choice if isinstance(choice, str) else choice["name"]]
        for better, lr in enumerate((torchs, 10 * torchs)):
            score = 0.7 + 0.1 * better - 0.2 * batch_sizes.index(batch_size)
            fields = {"optimizer": choice, "lr": lr, "batch_size": batch_size}
            runs += seeds([score, score], **fields)
            for scheduler in ("cosine", {"name": "constant", "warmup_epochs": 2.0}):
                runs += seeds([0.9, 0.9], scheduler=scheduler, **fields)

    curves = section_record(results(*runs), "budget").curves

    assert len(curves) == len(choices)
    for curve in curves:
        assert (curve.default, curve.tuned) == (pytest.approx(0.7), pytest.approx(0.9))


def test_the_default_rates_are_torchs() -> None:
    import inspect

    import torch

    names = {**{n: n for n in OTHERS}, **{cls.lower(): cls for cls in REGISTERED}}
    names |= dict.fromkeys(("momentum", "nesterov"), "SGD")
    for name, cls in names.items():
        if name not in UNSUPPORTED:
            torchs = inspect.signature(getattr(torch.optim, cls)).parameters["lr"].default
            assert DEFAULT_LR[name] == torchs, name


def test_nothing_tuned_has_no_best_learning_rates() -> None:
    runs = [
        trial_run(0.9 + s / 100, dataset={"name": "logic_gate", "gate": gate}, model=model, seed=s)
        for gate in ("and", "xor")
        for model in ("perceptron", "mlp")
        for s in range(2)
    ]
    built = whole_report(results(*runs))
    assert built.record("best_of_each") is None
    assert "Best learning rates" not in terminal([built])


def test_fields_that_follow_from_the_data_set_are_not_shown() -> None:
    runs = [
        *seeds([0.9, 0.8], dataset="digits", loss="cross_entropy", optimizer="sgd"),
        *seeds([0.9, 0.8], dataset="digits", loss="cross_entropy", optimizer="adam"),
        *seeds([0.7, 0.8], dataset="breast_cancer", loss="bce", optimizer="sgd"),
    ]
    assert whole_report(results(*runs)).comparison.shown == ("optimizer",)


def test_the_same_results_give_the_same_report(report: Report) -> None:
    assert json_text([whole_report(full_grid())]) == json_text([report])


@pytest.mark.parametrize("case", POOR)
def test_poor_results_give_a_valid_report_in_all_sections(case: str) -> None:
    built = whole_report(with_run_details(results(*POOR[case])))
    parsed = json.loads(json_text([built]))
    assert parsed["experiments"][0]["experiment"] == "demo"
    assert csv([built]).startswith("experiment,rank,")
    for text in (terminal([built]), markdown([built]), latex([built]), html([built])):
        assert not re.search(r"\bnan\b|>None<|\binf\b", text)
    assert SCRIPT not in html([built])


def test_sections_fit_80_columns(report: Report) -> None:
    lines = terminal([report]).splitlines()
    assert max(map(cell_len, lines)) <= 80


def test_sections_are_chosen_by_name() -> None:
    assert {s.name for s in choose_sections([])} == {s.name for s in sections() if s.brief}
    assert [s.name for s in choose_sections(["cost", "paired"])] == ["paired", "cost"]
    assert choose_sections(["all"]) == sections()
    with pytest.raises(InputError, match="did you mean 'paired'"):
        choose_sections(["pared"])


@pytest.mark.parametrize(
    "text", [r"\input{/etc/passwd}", "50% of $x_1$ & {y} ~ ^ #", SCRIPT, FORMULA, '"`|<>']
)
def test_latex_prints_text_as_it_is(text: str) -> None:
    from harness.report.markup import escape_latex

    bare = re.sub(r"\\text[a-z]+\{\}|\\[{}$&#%_]", "", escape_latex(text))
    assert not re.search(r"[\\{}$&#%_^~]", bare)


def test_latex_tables_are_whole(report: Report) -> None:
    text = latex([report])
    tables = re.findall(
        r"\\begin\{longtable\}\{([^\n]*)\}\n(.*?)\\end\{longtable\}", text, re.DOTALL
    )
    assert len(tables) > 20
    for formats, body in tables:
        columns = len(re.sub(r">\{[^}]*\}p\{[^}]*\}", "p", formats))
        rows = re.findall(r"^(\{.*\}) \\\\", body, re.MULTILINE)
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}


def test_tracebacks_are_folded_and_escaped() -> None:
    failed = trial_run(outcome="failed", status="FAILED", seed=1, tags={"harness.reason": "boom"})
    details = StubRunDetails(tracebacks={failed.run_id: f"Traceback\n  {SCRIPT}"})
    page = html([whole_report(with_run_details(results(trial_run(0.9), failed), details))])
    assert re.search(r"<details><summary>[^<]*boom</summary><pre>Traceback\n", page)
    assert SCRIPT not in page


def test_json_has_every_record(report: Report) -> None:
    parsed: dict[str, Any] = json.loads(json_text([report]))["experiments"][0]
    assert set(parsed) == {"experiment", *(section.name for section, _ in report.parts)}
    assert parsed["across_tasks"]["friedman"]["tasks"] == 6


def test_learning_rates_drawn_at_random_make_no_endless_table() -> None:
    chance = np.random.default_rng(0)
    runs = [
        trial_run(0.5 + i / 100, lr=float(10 ** chance.uniform(-4, 0)), optimizer=name)
        for i in range(40)
        for name in ("adam", "sgd")
    ]
    built = whole_report(with_run_details(results(*runs)))

    assert built.record("grid").cells == ()
    assert max(map(cell_len, terminal([built]).splitlines())) <= 80
    assert html([built])
