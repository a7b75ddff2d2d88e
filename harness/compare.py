"""`python -m harness.compare [NAME or FILE…]`: rank what was run, with its spread over seeds."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.flags import OK, run_command
from harness.core.text import distinct_parts

if TYPE_CHECKING:
    from harness.analysis.comparison import Question
    from harness.experiment.plan import Plan
    from harness.report.build import Report
    from harness.store.read.results import Results
    from harness.store.store import Store

FORMATS = ("table", "markdown", "latex", "csv", "json")
FOR_PEOPLE = ("table", "markdown", "latex")
DEFAULT_TOP = 20
SUFFIXES = (".yaml", ".yml")
EPILOG = """\
Reads the MLflow store alone: nothing is trained. A FILE counts only the trials that it asks for
now; a NAME counts all that the experiment ever ran.
exit codes: 0 compared; 2 no such experiment, no runs, or a question they cannot answer.
"""


@dataclass(frozen=True)
class Found:
    """An experiment's results and what is asked of them. label: its name, and its store's where
    there are several."""

    label: str
    results: Results
    question: Question


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.compare",
        description="Rank the configs of an experiment over their seeds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "experiments",
        nargs="*",
        metavar="NAME or FILE",
        help="an experiment, by name or by its file; the one run last by default",
    )
    made.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    made.add_argument(
        "--metric",
        help="rank on this in place of the experiment's own: val/loss reads the last epoch, "
        "best/val/loss the best one",
    )
    made.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="FIELD",
        help="show the best of each value of a field (repeat for combinations)",
    )
    made.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only trials with this value (repeat: a field's values are alternatives)",
    )
    made.add_argument(
        "--top",
        type=_count,
        metavar="N",
        help=f"the best N configs, 0 for all (default: {DEFAULT_TOP}; all for csv, json and HTML)",
    )
    made.add_argument(
        "--baseline",
        metavar="NAME",
        help="compare all others with this contender (an optimizer, or a value of --by)",
    )
    made.add_argument(
        "--section",
        action="append",
        default=[],
        metavar="NAME",
        help="show this section, or `all` (repeat; default: the short ones; json has all)",
    )
    made.add_argument(
        "--html", type=Path, metavar="PATH", help="also write a report with figures as one file"
    )
    made.add_argument(
        "--store",
        action="append",
        default=[],
        metavar="URI",
        help="read this MLflow store in place of the project's (repeat: each experiment in each)",
    )
    made.add_argument(
        "--join",
        action="store_true",
        help="take all experiments as one, told apart by the field `experiment`",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))
    where = conditions(arguments.where)
    # Files are read first: a mistake in one is told before the store is opened.
    asked = [_planned(given) for given in arguments.experiments]

    found = list(_found(asked, arguments, where))
    if arguments.join:
        found = [_joined(found)]
    _write(_render(found, arguments))
    if arguments.html is not None:
        _write_html(found, arguments.html)
    return OK


def _found(
    asked: Sequence[tuple[str, Plan | None]], arguments: argparse.Namespace, where: dict[str, Any]
) -> Iterator[Found]:
    """Each experiment of each store, with what is asked of it."""
    from harness.store.read.results import read_results
    from harness.store.store import open_existing_store

    stores = [open_existing_store(uri) for uri in arguments.store or [None]]
    for store, where_it_is in zip(stores, distinct_parts([s.label for s in stores]), strict=True):
        for name, plan in asked or [(_newest(store), None)]:
            label = f"{name} @ {where_it_is}" if len(stores) > 1 else name
            goal = plan.experiment.goal if plan else None
            yield Found(label, read_results(store, name, goal), _question(arguments, where, plan))


def _joined(found: Sequence[Found]) -> Found:
    from harness.analysis.joining import join
    from harness.core.errors import InputError

    if len(found) < 2:
        raise InputError("--join needs two experiments or two stores")
    planned = [one.question.planned for one in found]
    question = replace(found[0].question, planned=None, expect=())
    if all(ids is not None for ids in planned):
        question = replace(question, planned={i for ids in planned for i in ids or ()})
    together = join([one.results for one in found], [one.label for one in found])
    return Found(together.experiment, together, question)


def conditions(given: Sequence[str]) -> dict[str, Any]:
    """`["lr=0.01", "lr=0.1"]` as `{"lr": [0.01, 0.1]}`. Raises InputError for what is not
    FIELD=VALUE."""
    from harness.core.errors import InputError, Problem
    from harness.experiment.reading import yaml

    found: dict[str, list[Any]] = {}
    for one in given:
        field, equals, value = one.partition("=")
        if not equals or not field.strip():
            raise InputError(Problem("must be FIELD=VALUE", where=f"--where {one!r}"))
        found.setdefault(field.strip(), []).append(yaml.parse(value, f"--where {one!r}").values)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _planned(given: str) -> tuple[str, Plan | None]:
    """An experiment's name, and its plan where a file was given whose data is at hand."""
    if not given.endswith(SUFFIXES):
        return given, None

    from harness.components.shared.data_files import offline
    from harness.core.errors import DataMissing
    from harness.core.paths import data_root
    from harness.experiment.loading import load
    from harness.experiment.plan import make_plan

    with offline("comparing downloads nothing"):
        experiment = load(given)
        try:
            return experiment.name, make_plan(experiment, data_root())
        except DataMissing as error:
            print(
                f"note: all trials of {experiment.name!r} are compared, not only those that "
                f"{given} asks for now, which its data would tell: {error}",
                file=sys.stderr,
            )
            return experiment.name, None


def _newest(store: Store) -> str:
    from harness.core.errors import InputError
    from harness.store.read.results import experiment_names

    names = experiment_names(store)
    if not names:
        raise InputError("the store has no experiments yet: run a sweep first")
    return names[0]


def _question(arguments: argparse.Namespace, where: dict[str, Any], plan: Plan | None) -> Question:
    from harness.analysis.comparison import Question

    question = Question(
        metric=arguments.metric,
        where=where,
        by=tuple(arguments.by),
        top=arguments.top or None,
        baseline=arguments.baseline,
    )
    if plan is None:
        return question
    asked = question.of_plan(plan)
    # Which points a search tried, and which of them won, its file does not say.
    return asked if plan.experiment.search is None else replace(asked, planned=None)


def _render(found: Sequence[Found], arguments: argparse.Namespace) -> str:
    from harness.report.build import build_report
    from harness.report.section import chosen, sections

    form = arguments.format
    of = sections() if form == "json" and not arguments.section else chosen(arguments.section)
    if form == "csv":
        of = chosen(["leaderboard"])
    reports = []
    for one in found:
        question = one.question
        if form in FOR_PEOPLE and arguments.top is None:
            question = replace(question, top=DEFAULT_TOP)
        reports.append(build_report(one.results, question, of))
    if form in ("csv", "json"):
        from harness.report import tables

        return tables.csv(reports) if form == "csv" else tables.json_text(reports)
    return _text(reports, form)


def _text(reports: Sequence[Report], form: str) -> str:
    if form == "markdown":
        from harness.report.markdown import markdown

        return markdown(reports)
    if form == "latex":
        from harness.report.latex import latex

        return latex(reports)
    from harness.report.terminal import for_stdout

    return for_stdout(reports)


def _write_html(found: Sequence[Found], path: Path) -> None:
    """All sections, all configs, whatever the terminal shows."""
    from harness.core.errors import InputError
    from harness.report.build import build_report
    from harness.report.html import html
    from harness.report.section import sections

    asked = [(one.results, replace(one.question, top=None)) for one in found]
    page = html([build_report(results, question, sections()) for results, question in asked])
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--html {path}: cannot be written: {error.strerror}") from None
    print(f"report: {path}", file=sys.stderr)


def _write(text: str) -> None:
    """What the terminal's encoding lacks becomes a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
