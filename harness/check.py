"""`python -m harness.check FILE [key=value…]`: checks the components of a file's own code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness.cli.flags import OK, SOME_FAILED, run_command

EPILOG = """\
This runs the code that the file names. Everything is checked on a few random examples, and data
sets of your own are loaded. Nothing is stored.
exit codes: 0 each component has all that its kind needs; 1 one lacks something; 2 bad input.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.check",
        description="Check the components of an experiment file's own code against what a "
        "component of their kind must do, and say what each lacks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="the experiment file (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a field")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from pathlib import Path

    from harness.core.paths import data_root
    from harness.diagnostics.contract.checks import check_own_components
    from harness.experiment.loading import load

    experiment = load(arguments.file, arguments.overrides)
    folder = Path(arguments.file).resolve().parent
    passed = check_own_components(experiment, data_root(), folder, print)
    return OK if passed else SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
