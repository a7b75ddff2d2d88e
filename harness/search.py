"""`python -m harness.search FILE [key=value…]`: tune each optimizer with the same budget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from harness.cli.flags import OK, add_training_flags, check_training_flags, run_command

EPILOG = """\
key=value overrides any field of the file: search.trials=5, trial.epochs=1, search.sampler=random.
exit codes: 0 all done; 1 some trial failed; 2 bad input, nothing was run; 130 interrupted: run the
same command again and it goes on.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.search",
        description="Tune what the search: block of an experiment file names, one study of equal "
        "budget for each value of per:, then train the winners again on fresh seeds and compare "
        "them with their defaults.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("file", help="the experiment file (YAML)")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="override a field")
    made.add_argument("--dry-run", action="store_true", help="list the studies; run nothing")
    add_training_flags(
        made,
        fuse="ask for up to K points at once, and train those that are alike as one stack; auto: "
        "as many as the sampler draws at once, where a short measurement finds a stack faster "
        "(default: off)",
        workers="; 1 is reproducible",
    )
    made.add_argument(
        "--storage",
        default="",
        metavar="WHERE",
        help="Optuna's storage: a journal's path, or a URL such as postgresql://… for several "
        "machines (default: search.storage, else a journal in mlruns/studies)",
    )
    made.add_argument(
        "--no-compare", action="store_true", help="do not print the comparison at the end"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.components.shared.data_files import offline
    from harness.core.errors import InputError, Problem
    from harness.core.paths import data_root
    from harness.experiment.loading import load
    from harness.experiment.plan import make_plan
    from harness.tuning.report import listing
    from harness.tuning.study_plan import plan_studies

    check_training_flags(arguments)
    with offline("a dry run downloads nothing") if arguments.dry_run else nullcontext():
        experiment = load(arguments.file, arguments.overrides)
        if experiment.search is None:
            raise InputError(
                Problem(
                    "there is no search: block",
                    where=str(experiment.path),
                    hint="docs/search.md shows one",
                )
            )
        plan = make_plan(experiment, data_root())
        found = plan_studies(plan, experiment.search, data_root())
    if arguments.dry_run:
        sys.stdout.write(listing(experiment.name, experiment.search, found))
        return OK

    from harness.runner.search import run

    return run(experiment, experiment.search, found, arguments)


if __name__ == "__main__":
    sys.exit(main())
