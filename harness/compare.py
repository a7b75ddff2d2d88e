"""`python -m harness.compare [NAME or FILE…]`: ranks configs over their seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli.flags import OK, run_command

FORMATS = ("table", "markdown", "latex", "csv", "json")
EPILOG = """\
Reads the MLflow store and trains nothing. A FILE compares the trials that it asks for now; a NAME
compares all trials that the experiment ever ran.
--csv and --mlflow compare runs of another program.
exit codes: 0 compared; 2 no such experiment, no runs, or a wrong flag.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.compare",
        description="Rank the configs of an experiment over their seeds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument

    def add_list(flag: str, metavar: str, text: str) -> None:
        add(flag, action="append", default=[], metavar=metavar, help=text)

    add(
        "experiments",
        nargs="*",
        metavar="NAME or FILE",
        help="an experiment, by its name or its file; by default the one that was run last",
    )
    add("--format", choices=FORMATS, default="table", help="output format (default: table)")
    add(
        "--metric",
        help="rank on this metric instead of the file's `metric`: val/loss reads the last epoch, "
        "best/val/loss the best one",
    )
    add_list("--by", "FIELD", "compare the best config of each value of a field (repeatable)")
    add_list(
        "--where",
        "FIELD=VALUE",
        "compare only trials with this value (repeatable; a field's values are alternatives)",
    )
    add(
        "--top",
        type=_count,
        metavar="N",
        help="show the best N configs, 0 for all (default: 20 in a table; all elsewhere)",
    )
    add(
        "--baseline",
        metavar="NAME",
        help="compare every other contender with this one (an optimizer, or a value of --by)",
    )
    add_list(
        "--section",
        "NAME",
        "show this section, or `all` (repeatable; default: the short sections; json: all)",
    )
    add("--html", type=Path, metavar="PATH", help="also write a report with figures as one file")
    add_list("--store", "URI", "read this MLflow store instead of the project's (repeatable)")
    add(
        "--join",
        action="store_true",
        help="compare all experiments as one; the field `experiment` distinguishes them",
    )
    _add_external(parser)
    return parser


def _add_external(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for results that another program made."""
    group = parser.add_argument_group(
        "results made elsewhere",
        "Compares runs of another program: --by names the columns (of MLflow: params or tags) that "
        "compete, and --metric the score with its direction, as acc:max or loss:min.",
    )

    def add_list(flag: str, metavar: str, text: str) -> None:
        group.add_argument(flag, action="append", default=[], metavar=metavar, help=text)

    add_list("--csv", "PATH", "read a CSV file with a row for each run (repeatable)")
    add_list(
        "--mlflow",
        "NAME",
        "read an MLflow experiment that another program wrote (repeatable); --metric acc:max takes "
        "each run's last value, --metric best/acc:max its best one",
    )
    add_list("--task", "COLUMN,…", "what was learned: only runs of one task are compared")
    group.add_argument("--seed", metavar="COLUMN", help="the seed, by which runs are paired")
    add_list("--config", "COLUMN,…", "further settings that tell runs apart, such as lr,wd")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.components.registry import no_code
    from harness.report.request import read_requests, render, write_html

    with no_code():
        requests = read_requests(arguments)
        sys.stdout.write(render(requests, arguments.format, arguments.section))
        if arguments.html is not None:
            write_html(requests, arguments.html)
            print(f"report: {arguments.html}", file=sys.stderr)
    return OK


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or a positive integer")
    return count


if __name__ == "__main__":
    sys.exit(main())
