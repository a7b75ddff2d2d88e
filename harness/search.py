"""`python -m harness.search FILE [key=value…]`: tunes each optimizer with the same budget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from harness.cli.flags import OK, add_training_flags, check_training_flags, run_command

EPILOG = """\
key=value overrides any field of the file: search.trials=5, trial.epochs=1, search.sampler=random.
exit codes: 0 all done; 1 a trial failed (with --fail-fast: the others may not have trained); 2 bad
input, nothing was run; 130 interrupted: run the same command again to continue.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.search",
        description="Tune the search space of an experiment file: one study for each value of "
        "per:, all with the same budget. Then train the winners and the defaults on fresh seeds, "
        "and compare them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="the experiment file (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a field")
    parser.add_argument("--dry-run", action="store_true", help="list the studies; run nothing")
    add_training_flags(
        parser,
        fuse="ask for up to K points at a time, and train those that can be stacked as one stack; "
        "auto: as many as the sampler draws without new results, where a short measurement finds a "
        "stack faster (default: off)",
        workers="; 1 is reproducible",
    )
    parser.add_argument(
        "--storage",
        default="",
        metavar="WHERE",
        help="Optuna's storage: a journal's path, or a URL such as postgresql://… for several "
        "machines (default: search.storage, else a journal in mlruns/studies)",
    )
    parser.add_argument(
        "--no-compare", action="store_true", help="do not print the comparison at the end"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.components.shared.data_files import offline
    from harness.core.errors import InputError, Problem
    from harness.core.paths import data_root
    from harness.experiment.loading import load
    from harness.experiment.plan import plan_bases
    from harness.tuning.report import listing
    from harness.tuning.study_plan import plan_studies

    check_training_flags(arguments)
    with offline("a dry run downloads nothing") if arguments.dry_run else nullcontext():
        experiment = load(arguments.file, arguments.overrides)
        if experiment.search is None:
            raise InputError(
                Problem(
                    "the file has no `search:` block",
                    where=experiment.where,
                    hint="add one, as docs/search.md shows, or run python -m harness.sweep",
                )
            )
        plan = plan_bases(experiment, data_root())
        plans = plan_studies(plan, experiment.search, data_root())
    if arguments.dry_run:
        if experiment.source.identities:
            print(f"code that a search runs: {experiment.source.describe()}")
        sys.stdout.write(listing(experiment.name, experiment.search, plans))
        return OK

    from harness.runner.search import run

    return run(experiment, experiment.search, plans, arguments)


if __name__ == "__main__":
    sys.exit(main())
