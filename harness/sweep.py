"""`python -m harness.sweep FILE [key=value…]`: trains what an experiment asks for and lacks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from harness.cli.flags import OK, add_training_flags, check_training_flags, run_command
from harness.core.text import plural

if TYPE_CHECKING:
    from harness.experiment.plan import Plan

EPILOG = """\
key=value overrides any field of the file: trial.epochs=1, grid.seed=[0,1], lr=0.01.
exit codes: 0 all done; 1 a trial failed (with --fail-fast: the others may not have trained); 2 bad
input, nothing was run; 130 interrupted: run the same command again to continue.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.sweep",
        description="Train every trial of an experiment file that is not done yet.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="the experiment file (YAML)")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="override a field"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the trials and skipped combinations only"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--retry-failed", action="store_true", help="also train trials that failed before"
    )
    again.add_argument(
        "--rerun",
        action="store_true",
        help="train every trial again; newer runs replace older ones",
    )
    add_training_flags(
        parser,
        fuse="train trials that differ only in optimizer, lr, scheduler, seed or clipping as stacks"
        " of at most K; auto: where a short measurement finds a stack faster (default: off)",
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
    from harness.core.paths import data_root
    from harness.experiment.loading import load
    from harness.experiment.plan import make_plan

    check_training_flags(arguments)
    with offline("a dry run downloads nothing") if arguments.dry_run else nullcontext():
        plan = make_plan(load(arguments.file, arguments.overrides), data_root())
    if arguments.dry_run:
        sys.stdout.write(listing(plan, arguments.fuse))
        return OK

    from harness.runner.sweep import run

    return run(plan, arguments)


def listing(plan: Plan, fuse: int | str = "off") -> str:
    """Returns what `--dry-run` prints: every trial with its id, every skipped combination with its
    reason, and with `fuse` the stacks, and why other trials train alone."""
    from harness.core.paths import data_root
    from harness.execution.stacking import plan_stacks

    lines = [f"{planned.trial_id}  {planned.name}" for planned in plan.trials]
    lines += [
        f"skipped           {' '.join(f'{k}={v}' for k, v in skip.axes.items())}: {skip.because}"
        for skip in plan.skipped
    ]
    if fuse != "off":
        from harness.training.stacked.compatibility import stacking_refusal

        grouping = plan_stacks(plan.trials, fuse)
        lines += grouping.without_refused(
            lambda trial: stacking_refusal(trial, data_root())
        ).lines()
    if plan.experiment.source.identities:
        lines.append(f"code that a sweep runs: {plan.experiment.source.describe()}")
    configs = len({planned.config_id for planned in plan.trials})
    lines.append(
        f"{plan.experiment.name}: {plural(len(plan.trials), 'trial')} of "
        f"{plural(configs, 'config')}, {plural(len(plan.skipped), 'combination')} skipped; "
        f"ranked on {plan.experiment.metric}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
