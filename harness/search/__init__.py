"""`python -m harness.search FILE [key=value…]`: tune each optimizer with the same budget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from harness.cli import OK, dispatch_flags, guard, refuse_stacks_on_ray

if TYPE_CHECKING:
    from harness.experiment.tuning import Search
    from harness.search.points import StudyPlan

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
    dispatch_flags(
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
    return guard(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.errors import InputError, Problem
    from harness.experiment.loading import load
    from harness.kit.datafiles import offline
    from harness.paths import data_root
    from harness.plan import make_plan
    from harness.search.points import studies

    refuse_stacks_on_ray(arguments)
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
        found = studies(plan, experiment.search, data_root())
    if arguments.dry_run:
        sys.stdout.write(listing(experiment.name, experiment.search, found))
        return OK

    from harness.search.session import run

    return run(experiment, experiment.search, found, arguments)


def listing(name: str, search: Search, found: Sequence[StudyPlan]) -> str:
    """What `--dry-run` prints: every study with its space, its default and its budget."""
    lines = [f"{name}: {budget(search)}", f"sampler {search.sampler}, pruner {search.pruner}"]
    for study in found:
        lines.append(f"study {study.label} [{study.key}]")
        lines += [f"  {dimension.field}: {dimension}" for dimension in study.dimensions]
        lines.append(f"  default: {study.described(study.default)}")
    seeds = ", ".join(map(str, search.seeds))
    lines.append(f"each point on seed {seeds}; winners and defaults on {search.retrain_seeds} more")
    return "\n".join(lines) + "\n"


def budget(search: Search) -> str:
    """ "20 trials a study", and what else ends one."""
    parts = []
    if search.trials is not None:
        parts.append(f"{search.trials} trials a study")
    if search.minutes is not None:
        parts.append(f"{search.minutes:g} minutes of training a study")
    if search.patience is not None:
        parts.append(f"or {search.patience} trials without a better one")
    return ", ".join(parts)
