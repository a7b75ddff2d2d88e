"""`python -m harness.compare [NAME or FILE…]`: rank what was run, with its spread over seeds."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.cli import OK, guard

if TYPE_CHECKING:
    from harness.analysis.comparison import Question
    from harness.experiment.spec import Plan
    from harness.report.build import Report
    from harness.tracking.store import Store

FORMATS = ("table", "markdown", "csv", "json")
FOR_PEOPLE = ("table", "markdown")
DEFAULT_TOP = 20
SUFFIXES = (".yaml", ".yml")
EPILOG = """\
Reads the MLflow store alone: nothing is trained. A FILE counts only the trials that it asks for
now; a NAME counts all that the experiment ever ran.
exit codes: 0 compared; 2 no such experiment, no runs, or a question they cannot answer.
"""


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
        help=f"the best N configs, 0 for all (default: {DEFAULT_TOP}; all for csv and json)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return guard(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))
    where = conditions(arguments.where)
    # Files are read first: a mistake in one is told before the store is opened.
    asked = [_planned(given) for given in arguments.experiments]

    from harness.tracking.results import open_existing

    store = open_existing()
    if not asked:
        asked = [(_newest(store), None)]
    reports = [_report(store, name, _question(arguments, where, plan)) for name, plan in asked]
    _write(_render(reports, arguments.format))
    return OK


def conditions(given: Sequence[str]) -> dict[str, Any]:
    """`["lr=0.01", "lr=0.1"]` as `{"lr": [0.01, 0.1]}`. Raises InputError for what is not
    FIELD=VALUE."""
    from harness.errors import InputError, Problem
    from harness.experiment import yaml

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

    from harness.errors import DataMissing
    from harness.experiment.loading import load
    from harness.paths import data_root
    from harness.plan import make_plan

    experiment = load(given)
    try:
        return experiment.name, make_plan(experiment, data_root())
    except DataMissing as error:
        print(
            f"note: all trials of {experiment.name!r} are compared, not only those that {given} "
            f"asks for now, which its data would tell: {error}",
            file=sys.stderr,
        )
        return experiment.name, None


def _newest(store: Store) -> str:
    from harness.errors import InputError
    from harness.tracking.results import experiment_names

    names = experiment_names(store)
    if not names:
        raise InputError("the store has no experiments yet: run a sweep first")
    return names[0]


def _question(arguments: argparse.Namespace, where: dict[str, Any], plan: Plan | None) -> Question:
    from harness.analysis.comparison import Question

    top = arguments.top
    if top is None and arguments.format in FOR_PEOPLE:
        top = DEFAULT_TOP
    question = Question(
        metric=arguments.metric, where=where, by=tuple(arguments.by), top=top or None
    )
    return question if plan is None else question.of_plan(plan)


def _report(store: Store, name: str, question: Question) -> Report:
    from harness.report.build import build_report
    from harness.tracking.results import read

    return build_report(read(store, name), question)


def _render(reports: Sequence[Report], form: str) -> str:
    if form == "markdown":
        from harness.report.markdown import markdown

        return markdown(reports)
    if form in ("csv", "json"):
        from harness.report import tables

        return tables.csv(reports) if form == "csv" else tables.json_text(reports)
    from harness.report.terminal import for_stdout

    return for_stdout(reports)


def _write(text: str) -> None:
    """What the terminal's encoding lacks becomes a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
