"""`python -m harness.doctor`: examines the set-up and the store, and mends what it safely can."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.cli.flags import OK, SOME_FAILED, run_command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.diagnostics.finding import Finding
    from harness.store.store import Store

EPILOG = """\
Without --fix nothing is changed. What has no safe remedy is told with what a person can do.
exit codes: 0 healthy, or mended; 1 something is wrong; 2 bad input.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.doctor",
        description="Examine the set-up and the health of the store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "experiments", nargs="*", metavar="NAME", help="whose runs (default: every experiment's)"
    )
    made.add_argument("--fix", action="store_true", help="mend what can be mended safely")
    made.add_argument("--only", choices=("setup", "store"), help="examine one half (default: both)")
    made.add_argument(
        "--store",
        metavar="URI",
        help="which store (default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db)",
    )
    made.add_argument(
        "--wait",
        action="store_true",
        help="watch runs of other machines for a minute, to tell the dead from the living",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(list(argv))

    from rich.console import Console

    from harness.diagnostics.finding import State

    console = Console()
    states = set()
    for finding in _examined(arguments):
        done = _mended(finding) if arguments.fix else finding
        states.add(done.state)
        _show(console, done)
    wrong = State.WRONG in states
    console.print(_verdict(wrong, State.MENDED in states, arguments.fix), highlight=False)
    return SOME_FAILED if wrong else OK


def _examined(arguments: argparse.Namespace) -> Iterator[Finding]:
    from harness.core.paths import data_root, project_root

    if arguments.only != "setup":
        # First, so that a wrong name is told before anything is examined.
        store, names, absent = _store(arguments)
    if arguments.only != "store":
        from harness.diagnostics import setup

        yield from setup.examine(data_root(), project_root() / "mlruns")
    if arguments.only == "setup":
        return
    from harness.diagnostics import stored

    if store is None:
        yield absent
    else:
        yield from stored.examine(store, names, arguments.wait)


def _store(arguments: argparse.Namespace) -> tuple[Store | None, list[str], Finding]:
    """The store and the names of the experiments to examine; or what is to be told of its
    absence."""
    from harness.core.errors import InputError, Problem, StoreError, did_you_mean
    from harness.diagnostics.finding import note, wrong
    from harness.store.health import experiments
    from harness.store.store import open_existing_store

    nothing = note("store", "")
    try:
        store = open_existing_store(arguments.store)
        known = experiments(store)
    except InputError as error:
        if arguments.experiments or arguments.store:
            raise
        return None, [], note("store", error.problems[0].what)
    except StoreError as error:
        return None, [], wrong("store", str(error))
    unknown = [name for name in arguments.experiments if name not in known]
    if unknown:
        raise InputError(
            [
                Problem(f"no experiment is named {name!r}", hint=did_you_mean(name, known))
                for name in unknown
            ]
        )
    return store, arguments.experiments or sorted(known), nothing


def _mended(finding: Finding) -> Finding:
    """A finding after its remedy, where it has one."""
    from harness.core.errors import StoreError
    from harness.diagnostics.finding import State

    if finding.state is not State.WRONG or finding.mend is None:
        return finding
    try:
        return replace(finding, state=State.MENDED, what=finding.mend(), mend=None)
    except (StoreError, OSError) as error:
        return replace(finding, what=f"{finding.what}; it could not be mended: {error}")


def _show(console: Console, finding: Finding) -> None:
    from rich.table import Table
    from rich.text import Text

    from harness.diagnostics.finding import State
    from harness.report.escaping import clean

    styles = {
        State.OK: "green",
        State.NOTE: "cyan",
        State.WRONG: "bold red",
        State.MENDED: "yellow",
    }
    row = Table.grid(padding=(0, 2))
    row.add_column(width=6)
    row.add_column(width=14, overflow="ellipsis", no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(
        Text(finding.state, styles[finding.state]), Text(clean(finding.check)), _told(finding)
    )
    console.print(row)


def _told(finding: Finding) -> Text:
    from rich.text import Text

    from harness.report.escaping import clean

    text = Text(clean(finding.what))
    return text.append(" (--fix mends it)", "dim") if finding.mend is not None else text


def _verdict(wrong: bool, mended: bool, fixing: bool) -> str:
    if wrong:
        return "something is wrong" + ("" if fixing else "; nothing was changed")
    return "mended: all is well now" if mended else "all is well"


if __name__ == "__main__":
    sys.exit(main())
