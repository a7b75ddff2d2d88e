"""What a user asks of results that another program made: a CSV file, or an MLflow experiment."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.errors import InputError, Problem
from harness.store.read.external.csv_file import read_csv
from harness.store.read.external.mlflow_runs import read_mlflow
from harness.store.read.external.roles import ColumnRoles, column_roles
from harness.store.read.results import Results

WHAT = "say what is what: --by optimizer --task dataset --seed seed --metric acc:max"


def is_external(arguments: argparse.Namespace) -> bool:
    """Whether the command line asks for results that another program made.

    Raises InputError for flags that do not go together.
    """
    if not arguments.csv and not arguments.mlflow:
        flags = {"--task": arguments.task, "--seed": arguments.seed, "--config": arguments.config}
        given = next((flag for flag, value in flags.items() if value), None)
        if given is not None:
            hint = "the harness knows what its own experiments are"
            raise InputError(Problem(f"{given} is for results of --csv or --mlflow", hint=hint))
        return False
    flag = "--csv" if arguments.csv else "--mlflow"
    if arguments.experiments:
        named = arguments.experiments[0]
        hint = "to print its comparison as CSV, use --format csv" if arguments.csv else ""
        what = f"{flag} reads what another program made, and {named!r} is an experiment of ours"
        raise InputError(Problem(f"{what}: compare one after the other", hint=hint))
    if arguments.join:
        raise InputError(f"--join does not join results of {flag}: put all runs into one table")
    missing = [name for name in ("by", "metric") if not getattr(arguments, name)]
    if missing:
        raise InputError(Problem(f"{flag} needs --{' and --'.join(missing)}", hint=WHAT))
    return True


def external_results(arguments: argparse.Namespace, where: Sequence[str]) -> Iterator[Results]:
    """Yields the results of each CSV file, and of each MLflow experiment in each store.

    where: the columns that `--where` names.
    """
    for path in arguments.csv:
        yield read_csv(Path(path), _roles(arguments, where, steps=False))
    for uri in arguments.store or [None]:
        for name in arguments.mlflow:
            yield read_mlflow(uri, name, _roles(arguments, where, steps=True))


def _roles(arguments: argparse.Namespace, where: Sequence[str], steps: bool) -> ColumnRoles:
    return column_roles(
        by=arguments.by,
        metric=arguments.metric,
        task=_names(arguments.task),
        seed=arguments.seed,
        config=_names(arguments.config),
        where=where,
        steps=steps,
    )


def _names(values: Sequence[str]) -> list[str]:
    """Returns the names in "lr,wd", given once or several times."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]
