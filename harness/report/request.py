"""What a user asks to compare: experiments by name or by file, in one store or several."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.analysis.comparison import Question
from harness.analysis.trials import join
from harness.components.code.source import identity_of
from harness.components.shared.data_files import offline
from harness.core.errors import DataMissing, InputError, NoResults, Problem, StoreError
from harness.core.paths import EXPERIMENT_SUFFIXES, data_root
from harness.core.text import distinct_parts, join_with_and
from harness.experiment.loading import NamesCode, load
from harness.experiment.plan import make_plan, plan_bases
from harness.experiment.plan_summary import PlanSummary
from harness.experiment.reading.yaml import parse
from harness.report.blocks import clean
from harness.report.data_formats import csv, json_for_stdout
from harness.report.external_request import external_results, is_external
from harness.report.markup import latex, markdown
from harness.report.section import build_report, choose_sections, sections
from harness.report.terminal import for_stdout
from harness.store.read.results import Results, experiment_names, read_results
from harness.store.read.stored_plans import last_plan
from harness.store.store import Store, open_existing_store

DEFAULT_TOP = 20
"""Configs of a table for people, unless `--top` asks for another number."""
FORMATS = {
    "table": for_stdout,
    "markdown": markdown,
    "latex": latex,
    "csv": csv,
    "json": json_for_stdout,
}
FOR_PEOPLE = ("table", "markdown", "latex")


@dataclass(frozen=True, slots=True)
class Request:
    """An experiment's results, and the question about them. label: the experiment's name, and its
    store's if there are several."""

    label: str
    results: Results
    question: Question


@dataclass(frozen=True, slots=True)
class Asked:
    """An experiment of the command line.

    file: where it was read from; "" if its name was given. command: what runs the file.
    plan: of the file; None if its data is not available, or if the name was given.
    code: of a file that names code: its plan is in the store. None for any other.
    """

    name: str
    file: str = ""
    command: str = ""
    plan: PlanSummary | None = None
    code: NamesCode | None = None


def read_requests(arguments: argparse.Namespace) -> list[Request]:
    """Returns what the command line asks for.

    Raises InputError for a mistake in a file, an experiment that does not exist, or experiments
    that cannot be joined.
    """
    short = arguments.top is None and arguments.format in FOR_PEOPLE
    question = Question(
        metric=arguments.metric,
        where=conditions(arguments.where),
        by=tuple(arguments.by),
        top=DEFAULT_TOP if short else arguments.top or None,
        baseline=arguments.baseline,
    )
    if is_external(arguments):
        question = replace(question, metric=None, by=())
        made = external_results(arguments, list(question.where))
        return [Request(results.experiment, results, question) for results in made]
    # Files are read before the store is opened, so that a mistake in one is reported first.
    experiments = [_experiment(name_or_file) for name_or_file in arguments.experiments]
    with _says_to_run(next((asked for asked in experiments if asked.file), None)):
        stores = [open_existing_store(uri) for uri in arguments.store or [None]]
    requests = list(_read(stores, experiments, question))
    return [_joined(requests)] if arguments.join else requests


def conditions(options: Sequence[str]) -> dict[str, Any]:
    """Returns `["lr=0.01", "lr=0.1"]` as `{"lr": [0.01, 0.1]}`. Raises InputError for an option
    that is not FIELD=VALUE."""
    values: dict[str, list[Any]] = {}
    for option in options:
        field, equals, value = option.partition("=")
        if not equals or not field.strip():
            raise InputError(Problem("must be FIELD=VALUE", where=f"--where {option!r}"))
        values.setdefault(field.strip(), []).append(parse(value, f"--where {option!r}").values)
    return {name: of[0] if len(of) == 1 else of for name, of in values.items()}


def render(requests: Sequence[Request], form: str, names: Sequence[str]) -> str:
    """Returns reports in one of `FORMATS`. names: of the sections to show."""
    chosen = sections() if form == "json" and not names else choose_sections(names)
    if form == "csv":
        chosen = choose_sections(["leaderboard"])
    reports = [build_report(request.results, request.question, chosen) for request in requests]
    return FORMATS[form](reports)


def write_html(requests: Sequence[Request], path: Path) -> None:
    """Writes all sections and all configs, whatever the terminal shows. Raises InputError if the
    file cannot be written."""
    from harness.report.html import html

    whole = [(request.results, replace(request.question, top=None)) for request in requests]
    page = html([build_report(results, question, sections()) for results, question in whole])
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--html {path}: cannot be written: {error.strerror}") from None


def _experiment(name_or_file: str) -> Asked:
    """Reads a file, and plans it if its data is available."""
    if not name_or_file.endswith(EXPERIMENT_SUFFIXES):
        return Asked(name_or_file)
    with offline("comparing downloads nothing"):
        try:
            experiment = load(name_or_file, run_code=False)
        except NamesCode as found:
            command = "search" if found.is_search else "sweep"
            return Asked(found.name, name_or_file, command, code=found)
        command = "sweep" if experiment.search is None else "search"
        asked = Asked(experiment.name, name_or_file, command)
        try:
            plan = plan_bases if experiment.search else make_plan
            return replace(asked, plan=PlanSummary.of(plan(experiment, data_root())))
        except DataMissing as error:
            _note(
                f"comparing all trials of {experiment.name!r}, not only those that {name_or_file} "
                f"asks for now: its data is needed to tell them apart: {error}"
            )
            return asked


@contextmanager
def _says_to_run(asked: Asked | None) -> Iterator[None]:
    """Raises InputError with the command that runs a file, where the store has no results of it."""
    try:
        yield
    except NoResults as error:
        if asked is None or not asked.file:
            raise
        reason = error.problems[0].what
        command = f"python -m harness.{asked.command} {shlex.quote(asked.file)}"
        raise InputError(
            Problem(f"not run yet: {reason}", where=asked.file, hint=f"run it first: {command}")
        ) from error


def _read(
    stores: Sequence[Store], experiments: Sequence[Asked], question: Question
) -> Iterator[Request]:
    """Reads each experiment from each store, by default the experiment that was run last."""
    for store, store_name in zip(stores, distinct_parts([s.label for s in stores]), strict=True):
        every = experiments or [Asked(name) for name in experiment_names(store)[:1]]
        if not every:
            raise InputError("the store has no experiments yet: run a sweep first")
        for asked in every:
            label = f"{asked.name} @ {store_name}" if len(stores) > 1 else asked.name
            plan = _stored_plan(store, asked, asked.code) if asked.code else asked.plan
            with _says_to_run(asked):
                results = read_results(store, asked.name, plan.goal if plan else None)
            yield Request(label, results, question.of_file(plan) if plan else question)


def _stored_plan(store: Store, asked: Asked, code: NamesCode) -> PlanSummary | None:
    """Returns the plan that the last sweep of a file stored, and says where it may not be that of
    the file as it is now. Comparing does not run the code that the file names."""
    try:
        stored = last_plan(store, asked.name, code.sha256)
        reason = "the store has no plan of it"
    except StoreError as error:
        stored, reason = None, clean(str(error))
    if stored is None:
        _note(f"comparing all trials of {asked.name!r}: {asked.file} names code, and {reason}")
        return None
    summary = stored.summary
    differences = [*_changed_files(summary, code, Path(asked.file))]
    if summary.overrides:
        differences.append(f"it was run with {clean(' '.join(summary.overrides))}")
    if differences:
        planned = f"the trials that the {asked.command} of {stored.started} planned"
        _note(f"comparing {planned}: {join_with_and(differences)}")
    return summary


def _changed_files(summary: PlanSummary, code: NamesCode, file: Path) -> Iterator[str]:
    """Yields what has changed since a plan was stored. Code is read, and not run."""
    if summary.sha256 != code.sha256:
        of = "" if summary.file == file.name else f", {clean(summary.file)},"
        yield f"its file{of} has changed since"
    for entry in sorted(summary.code.keys() & code.entries):
        try:
            identity = identity_of(file.resolve().parent, entry)
        except InputError:
            identity = ""
        if identity != summary.code[entry]:
            yield f"the code of {entry} has changed since"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _joined(requests: Sequence[Request]) -> Request:
    """Joins experiments into one. A run counts once, also if its experiment is named twice, by name
    and by file, or lies in two stores of which one is a copy."""
    question = replace(requests[0].question, planned=None, expect=())
    planned = [request.question.planned for request in requests]
    if all(trial_ids is not None for trial_ids in planned):
        every = {trial_id for trial_ids in planned for trial_id in trial_ids or ()}
        question = replace(question, planned=every)
    data = [request.question.data for request in requests]
    of_files = {key: checksum for of in data for key, checksum in (of or {}).items()}
    question = replace(question, data=None if None in data else of_files)
    distinct: list[Request] = []
    counted: set[str] = set()
    for request in requests:
        new = request.results.trials.loc[lambda trials: ~trials["run_id"].isin(counted)]
        counted.update(new["run_id"])
        if len(new):
            distinct.append(replace(request, results=replace(request.results, trials=new)))
    if len(distinct) < 2:
        again = f"; {requests[0].label} was named {len(requests)} times" if requests[1:] else ""
        raise InputError(f"--join needs two experiments or two stores{again}")
    labels = [request.label for request in distinct]
    results = join([request.results for request in distinct], labels)
    return Request(results.experiment, results, question)
