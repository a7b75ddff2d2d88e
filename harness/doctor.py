"""`python -m harness.doctor`: examines the set-up and the store, and makes safe repairs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.cli.flags import OK, SOME_FAILED, run_command

if TYPE_CHECKING:
    from rich.table import Table

    from harness.diagnostics import Finding

EPILOG = """\
Without --fix nothing is changed. A finding that only a person can repair says how.
exit codes: 0 healthy, or repaired; 1 something is wrong; 2 bad input.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.doctor",
        description="Examine the set-up and the health of the store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="NAME",
        help="an experiment whose runs to examine (default: all)",
    )
    parser.add_argument("--fix", action="store_true", help="repair what can be repaired safely")
    parser.add_argument(
        "--only",
        choices=("setup", "store"),
        help="examine only the installation, or only the store (default: both)",
    )
    parser.add_argument(
        "--store",
        metavar="URI",
        help="the MLflow store to examine (default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db)",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="watch runs of other machines for a minute, to see whether their processes are alive",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(list(argv))

    from rich.console import Console

    from harness.diagnostics import Status

    console = Console()
    statuses = set()
    for finding in _findings(arguments):
        reported = finding.fixed() if arguments.fix else finding
        statuses.add(reported.status)
        console.print(_row(reported))
    if Status.WRONG in statuses:
        verdict = (
            "some problems remain: see the lines marked wrong"
            if arguments.fix
            else "problems found; nothing was changed: --fix repairs what is safe to repair"
        )
    else:
        verdict = "all problems were fixed" if Status.FIXED in statuses else "no problems found"
    console.print(verdict, highlight=False)
    return SOME_FAILED if Status.WRONG in statuses else OK


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    from harness.core.paths import data_root, project_root

    stored: Iterator[Finding] = iter(())
    if arguments.only != "setup":
        from harness.diagnostics.store import examine_store

        # Opened first, so that a wrong name is reported before anything is examined.
        stored = examine_store(arguments.store, arguments.experiments, arguments.wait)
    if arguments.only != "store":
        from harness.diagnostics import examine_setup

        yield from examine_setup(data_root(), project_root() / "mlruns")
    yield from stored


def _row(finding: Finding) -> Table:
    from rich.table import Table
    from rich.text import Text

    from harness.report.blocks import clean

    styles = {"ok": "green", "note": "cyan", "wrong": "bold red", "fixed": "yellow"}
    text = Text(clean(finding.text))
    if finding.fix is not None:
        text.append(" (--fix repairs it)", "dim")
    row = Table.grid(padding=(0, 2))
    row.add_column(width=6)
    row.add_column(width=14, overflow="ellipsis", no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(Text(finding.status, styles[finding.status]), Text(clean(finding.check)), text)
    return row


if __name__ == "__main__":
    sys.exit(main())
